//! The target of the writes: a file written to by bare system calls, since the buffer may be bad on purpose.

use std::{ffi::CString, io, path::Path};

use anyhow::{Context as _, Result, ensure};

/// An open file.
pub struct File(libc::c_int);

impl File {
    pub fn create(path: &Path, append: bool) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).context("a path with a NUL")?;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
        let flags = flags | if append { libc::O_APPEND } else { 0 };
        // SAFETY: the name ends with a NUL.
        let file = unsafe { libc::open(name.as_ptr(), flags, 0o600) };
        ensure!(file >= 0, "failed to create {}: {}", path.display(), io::Error::last_os_error());
        Ok(Self(file))
    }

    pub fn write(&self, from: *const u8, length: usize, position: u64) -> io::Result<u64> {
        // SAFETY: the kernel checks the buffer, which may be bad on purpose.
        returned(unsafe { libc::pwrite(self.0, from.cast(), length, position as i64) })
    }

    /// Writes consecutive parts of memory as segments of these lengths.
    pub fn write_segments(&self, from: *const u8, lengths: &[usize], position: u64) -> io::Result<u64> {
        let mut start = from;
        let segments: Vec<libc::iovec> = lengths
            .iter()
            .map(|&length| {
                let segment = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: length };
                start = start.wrapping_add(length);
                segment
            })
            .collect();
        // SAFETY: the segments live through the call; the kernel checks what they point to.
        returned(unsafe { libc::pwritev(self.0, segments.as_ptr(), segments.len() as i32, position as i64) })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor is open and ours.
        unsafe { libc::close(self.0) };
    }
}

fn returned(result: isize) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}
