//! The target of the writes: a file written to by bare system calls, since the buffer may be bad on purpose.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

/// An open file. One that was created has no name any more, so that nothing is left behind however the program ends.
pub struct File(OwnedFd);

impl File {
    /// Creates a file of its own in `target` if that is a directory, and opens `target` itself if it is not. `flags` are
    /// added to those of open(2).
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn create(target: &Path, flags: libc::c_int) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut flags = flags | libc::O_CLOEXEC;
        if flags & libc::O_ACCMODE == 0 {
            flags |= libc::O_WRONLY;
        }
        let created = target.is_dir().then(|| {
            flags |= libc::O_CREAT | libc::O_EXCL;
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            target.join(format!(".prefault-workload-{}-{number}", std::process::id()))
        });
        let path = created.as_deref().unwrap_or(target);
        let name = CString::new(path.as_os_str().as_encoded_bytes()).context("a path with a NUL")?;
        // SAFETY: the name ends with a NUL.
        let descriptor = unsafe { libc::open(name.as_ptr(), flags, 0o600) };
        ensure!(descriptor >= 0, "failed to open {}: {}", path.display(), io::Error::last_os_error());
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        let file = Self(unsafe { OwnedFd::from_raw_fd(descriptor) });
        if let Some(path) = created {
            fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        }
        Ok(file)
    }

    /// As pwrite(2).
    ///
    /// # Errors
    /// Those of the system call.
    pub fn write(&self, from: *const u8, length: usize, position: u64) -> io::Result<u64> {
        // SAFETY: the kernel checks the buffer, which may be bad on purpose.
        returned(unsafe { libc::pwrite(self.as_raw_fd(), from.cast(), length, position as i64) })
    }

    /// Writes consecutive parts of memory as segments of these lengths, as pwritev(2).
    ///
    /// # Errors
    /// Those of the system call.
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
        returned(unsafe { libc::pwritev(self.as_raw_fd(), segments.as_ptr(), segments.len() as i32, position as i64) })
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The bytes or the error of a system call of the write family.
///
/// # Errors
/// The one in `errno` if the call returned -1.
pub fn returned(result: isize) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}
