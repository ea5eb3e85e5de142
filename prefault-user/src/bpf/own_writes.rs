//! Writes of the tool's own: what measuring adds to a write is how much longer they take with points than without. For
//! sessions that nobody else sees the counters of.

use std::{
    fs::File,
    io,
    os::fd::{FromRawFd as _, OwnedFd},
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use crate::data::floor;

/// Bytes of the writes that are timed: of one page, and of many.
pub const SIZES: [usize; 2] = [4096, 65536];

/// Writes of each size: half of them take longer than what is said.
const WRITES: usize = 256;

/// One for each of [`SIZES`].
pub type Times = [Duration; SIZES.len()];

/// How long a write of each of [`SIZES`] takes here, to a file in memory, from a buffer that is resident.
///
/// # Errors
/// If there is no such file to be had, or writing fails.
pub fn time() -> io::Result<Times> {
    let file = file_in_memory()?;
    let buffer = vec![1; SIZES.into_iter().max().unwrap_or_default()];
    let mut medians = [Duration::ZERO; SIZES.len()];
    for (median, size) in medians.iter_mut().zip(SIZES) {
        // The first write is the one that makes the pages.
        file.write_all_at(&buffer[..size], 0)?;
        let mut times = [Duration::ZERO; WRITES];
        for time in &mut times {
            let begun = Instant::now();
            file.write_all_at(&buffer[..size], 0)?;
            *time = begun.elapsed();
        }
        *median = floor::median(&mut times).unwrap_or_default();
    }
    Ok(medians)
}

fn file_in_memory() -> io::Result<File> {
    // SAFETY: the name is a string that ends with NUL.
    let file = unsafe { libc::memfd_create(c"prefault".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(file) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_takes_longer() {
        let [page, pages] = time().expect("files in memory can be made");
        assert!(Duration::ZERO < page && page < pages, "{page:?} {pages:?}");
    }
}
