//! Writes of which every number is known: the independent truth that the tool's counts are compared with.
//!
//! Runs in a guest, one kind of write on one or more directories, and prints what it did to each as a line of JSON. It
//! knows nothing of the tool.

use std::{
    ffi::CString,
    io,
    path::{Path, PathBuf},
    ptr, slice,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use xtask::truth::{Kind, Truth};

const PAGE: usize = 4096;

/// Does writes and says what it did.
#[derive(Parser)]
struct Args {
    /// What to write from
    kind: Kind,
    /// How many writes to each directory
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Where to
    #[arg(required = true)]
    directories: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for directory in &args.directories {
        let truth = write_all(args.kind, args.count, directory)?;
        println!("{}", serde_json::to_string(&truth)?);
    }
    Ok(())
}

fn write_all(kind: Kind, count: u64, directory: &Path) -> Result<Truth> {
    let file = File::create(&directory.join(format!("workload-{kind:?}")))?;
    let source = Mapping::new(2)?;
    let mut truth = Truth { directory: directory.to_owned(), kind, writes: 0, bytes: 0, errors: 0, absent_pages: 0 };
    if matches!(kind, Kind::Half | Kind::Bad) {
        source.unmap_page(1)?;
    }
    for number in 0..count {
        let position = number * 2 * PAGE as u64;
        let result = match kind {
            Kind::Resident => file.write(source.page(0), PAGE, position),
            Kind::Absent => {
                source.drop_page(0)?;
                truth.absent_pages += 1;
                file.write(source.page(0), PAGE, position)
            }
            Kind::Vector => file.write_segments(source.page(0), &[1000, 3000, 96], position),
            Kind::Half => file.write(source.page(0), 2 * PAGE, position),
            Kind::Bad => file.write(source.page(1), PAGE, position),
        };
        truth.writes += 1;
        match result {
            Ok(written) => truth.bytes += written,
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => truth.errors += 1,
            Err(error) => bail!("failed to write to {}: {error}", directory.display()),
        }
    }
    Ok(truth)
}

/// Anonymous memory, each page written to, so that it is resident and a page of its own.
struct Mapping {
    start: *mut u8,
    pages: usize,
}

impl Mapping {
    fn new(pages: usize) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever the kernel puts it.
        let start = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, -1, 0) };
        ensure!(start != libc::MAP_FAILED, "failed to map memory: {}", io::Error::last_os_error());
        // A huge page would come back whole after one of its pages was dropped.
        // SAFETY: the mapping was just made with this size.
        let advised = unsafe { libc::madvise(start, pages * PAGE, libc::MADV_NOHUGEPAGE) };
        // PREEMPT_RT kernels have no huge pages and do not know the advice.
        let is_unknown = advised != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
        ensure!(advised == 0 || is_unknown, "failed to forbid huge pages: {}", io::Error::last_os_error());
        let mapping = Self { start: start.cast(), pages };
        // SAFETY: the mapping is this large and writable, and nobody else knows it.
        unsafe { slice::from_raw_parts_mut(mapping.start, pages * PAGE) }.fill(0x5a);
        Ok(mapping)
    }

    fn page(&self, number: usize) -> *const u8 {
        assert!(number < self.pages, "there are {} pages", self.pages);
        self.start.wrapping_add(number * PAGE)
    }

    /// Makes a page not resident: the next access faults.
    fn drop_page(&self, number: usize) -> Result<()> {
        // SAFETY: the page is in the mapping, and its contents do not matter.
        let dropped = unsafe { libc::madvise(self.page(number).cast_mut().cast(), PAGE, libc::MADV_DONTNEED) };
        ensure!(dropped == 0, "failed to drop a page: {}", io::Error::last_os_error());
        ensure!(!self.is_resident(number)?, "a dropped page is still resident");
        Ok(())
    }

    fn is_resident(&self, number: usize) -> Result<bool> {
        let mut residency = 0;
        // SAFETY: the page is in the mapping, and one page gives one byte.
        let asked = unsafe { libc::mincore(self.page(number).cast_mut().cast(), PAGE, &raw mut residency) };
        ensure!(asked == 0, "failed to ask for residency: {}", io::Error::last_os_error());
        Ok(residency & 1 == 1)
    }

    /// Leaves a hole that nothing can be read from.
    fn unmap_page(&self, number: usize) -> Result<()> {
        // SAFETY: the page is in the mapping and is not accessed any more but by the kernel.
        let unmapped = unsafe { libc::munmap(self.page(number).cast_mut().cast(), PAGE) };
        ensure!(unmapped == 0, "failed to unmap a page: {}", io::Error::last_os_error());
        Ok(())
    }
}

/// A file written to by bare system calls, whose buffer may be bad.
struct File(libc::c_int);

impl File {
    fn create(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).context("a path with a NUL")?;
        // SAFETY: the name ends with a NUL.
        let file = unsafe { libc::open(name.as_ptr(), libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY, 0o600) };
        ensure!(file >= 0, "failed to create {}: {}", path.display(), io::Error::last_os_error());
        Ok(Self(file))
    }

    fn write(&self, from: *const u8, length: usize, position: u64) -> io::Result<u64> {
        // SAFETY: the kernel checks the buffer, which may be bad on purpose.
        returned(unsafe { libc::pwrite(self.0, from.cast(), length, position as i64) })
    }

    /// Writes consecutive parts of memory as segments of these lengths.
    fn write_segments(&self, from: *const u8, lengths: &[usize], position: u64) -> io::Result<u64> {
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
