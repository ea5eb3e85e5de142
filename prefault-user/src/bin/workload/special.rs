//! Writes that are not a plain pwrite(2): data of the kernel, other interfaces, and writers that are disturbed.

use std::{
    io,
    os::fd::{AsRawFd as _, RawFd},
    path::Path,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use prefault_user::workload::{
    Random, Truth,
    file::{File, returned},
    memory::{Mapping, PAGE},
};

use super::uring;

/// Ways to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Special {
    /// splice(2) from a pipe, a page at a time
    Splice,
    /// sendfile(2) from another file of the same directory, a page at a time
    Sendfile,
    /// copy_file_range(2) from another file of the same directory, a page at a time
    CopyFileRange,
    /// io_uring, eight writes in flight
    Uring,
    /// The same, each left to one of the process' worker threads in the kernel
    UringAsync,
    /// O_DIRECT
    Direct,
    /// While another thread truncates the file
    Truncated,
    /// From a page that was dropped just before, while another thread drops it all the time
    Dropped,
    /// Until the filesystem is full, and ten times more
    Full,
}

/// Writes that fail for want of space after the first one that does.
const FAILURES: u64 = 10;
/// Pages of one write that fills a filesystem.
const FILLING_PAGES: usize = 16;

impl Special {
    /// Does `count` writes to a new file in `target`, or to `target` itself if it is no directory.
    ///
    /// # Errors
    /// If anything fails that is not meant to.
    pub fn write_all(self, count: u64, seed: u64, target: &Path) -> Result<Truth> {
        let flags = match self {
            Self::Direct => libc::O_DIRECT,
            Self::Splice
            | Self::Sendfile
            | Self::CopyFileRange
            | Self::Uring
            | Self::UringAsync
            | Self::Truncated
            | Self::Dropped
            | Self::Full => 0,
        };
        let file = File::create(target, flags)?;
        let result = match self {
            Self::Splice => splice(&file, count),
            Self::Sendfile => between_files(&file, count, target, |from, to, _| {
                // SAFETY: plain integers and a null pointer, for the file's own position.
                returned(unsafe { libc::sendfile(to, from, ptr::null_mut(), PAGE) })
            }),
            Self::CopyFileRange => between_files(&file, count, target, |from, to, position| {
                let (mut source, mut destination) = (0, position as i64);
                // SAFETY: the positions live through the call.
                returned(unsafe { libc::copy_file_range(from, &raw mut source, to, &raw mut destination, PAGE, 0) })
            }),
            Self::Uring => uring::write_all(&file, count, false),
            Self::UringAsync => uring::write_all(&file, count, true),
            Self::Direct => direct(&file, count),
            Self::Truncated => truncated(&file, count, seed),
            Self::Dropped => dropped(&file, count),
            Self::Full => fill(&file),
        };
        result.with_context(|| format!("failed to write to {}", target.display()))
    }
}

fn splice(file: &File, count: u64) -> Result<Truth> {
    let (reader, mut writer) = io::pipe()?;
    let page = [0x5a; PAGE];
    let mut truth = Truth::default();
    for number in 0..count {
        io::Write::write_all(&mut writer, &page)?;
        let mut position = (number * 2 * PAGE as u64) as i64;
        // SAFETY: the position lives through the call.
        let result = returned(unsafe {
            libc::splice(reader.as_raw_fd(), ptr::null_mut(), file.as_raw_fd(), &raw mut position, PAGE, 0)
        });
        truth.count(result, 0)?;
        truth.kernel_writes += 1;
    }
    Ok(truth)
}

/// Pages copied by `copy`, which takes two descriptors and a position, from another file of `directory`.
fn between_files(
    file: &File,
    count: u64,
    directory: &Path,
    copy: impl Fn(RawFd, RawFd, u64) -> io::Result<u64>,
) -> Result<Truth> {
    let source = File::create(directory, libc::O_RDWR)?;
    let memory = Mapping::new(1)?;
    let mut truth = Truth::default();
    // Its own position is that of reading, which pwrite does not move.
    for number in 0..count {
        truth.count(source.write(memory.page(0), PAGE, number * PAGE as u64), 0)?;
    }
    for number in 0..count {
        truth.count(copy(source.as_raw_fd(), file.as_raw_fd(), number * PAGE as u64), 0)?;
        truth.kernel_writes += 1;
    }
    Ok(truth)
}

fn direct(file: &File, count: u64) -> Result<Truth> {
    let memory = Mapping::new(1)?;
    let mut truth = Truth::default();
    for number in 0..count {
        truth.count(file.write(memory.page(0), PAGE, number * 2 * PAGE as u64), 0)?;
    }
    Ok(truth)
}

fn truncated(file: &File, count: u64, seed: u64) -> Result<Truth> {
    let memory = Mapping::new(FILLING_PAGES)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let truncating = scope.spawn(|| {
            let mut random = Random(seed);
            while !done.load(Ordering::Relaxed) {
                // SAFETY: plain integers.
                let result = unsafe { libc::ftruncate(file.as_raw_fd(), random.below(1 << 20) as i64) };
                ensure!(result == 0, "failed to truncate: {}", io::Error::last_os_error());
            }
            Ok(())
        });
        let mut random = Random(seed);
        let mut truth = Truth::default();
        let writing = (0..count).try_for_each(|_| {
            let length = 1 + random.below(FILLING_PAGES * PAGE);
            truth.count(file.write(memory.page(0), length, random.below(1 << 20) as u64), 0)
        });
        done.store(true, Ordering::Relaxed);
        truncating.join().map_err(|_| anyhow::anyhow!("the thread that truncates panicked"))??;
        writing?;
        Ok(truth)
    })
}

/// How many pages were absent is not known: the other thread may drop the page between its prefault and its copy.
fn dropped(file: &File, count: u64) -> Result<Truth> {
    let memory = Mapping::new(1)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let dropping = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                memory.advise_away(0)?;
            }
            Ok::<_, anyhow::Error>(())
        });
        let mut truth = Truth::default();
        let writing = (0..count).try_for_each(|number| {
            memory.drop_page(0)?;
            Ok::<_, anyhow::Error>(truth.count(file.write(memory.page(0), PAGE, number * 2 * PAGE as u64), 0)?)
        });
        done.store(true, Ordering::Relaxed);
        dropping.join().map_err(|_| anyhow::anyhow!("the thread that drops panicked"))??;
        writing?;
        Ok(truth)
    })
}

fn fill(file: &File) -> Result<Truth> {
    let memory = Mapping::new(FILLING_PAGES)?;
    let mut truth = Truth::default();
    while truth.errors < FAILURES {
        truth.count(file.write(memory.page(0), FILLING_PAGES * PAGE, truth.bytes), libc::ENOSPC)?;
    }
    Ok(truth)
}
