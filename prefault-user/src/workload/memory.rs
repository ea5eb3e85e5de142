//! The source of the writes: memory of which it is known whether it is resident.

use std::{io, ptr, slice};

use anyhow::{Result, ensure};

/// Bytes of a page on the machines the tool runs on.
pub const PAGE: usize = 4096;

/// Anonymous memory, each page written to, so that it is resident and a page of its own.
pub struct Mapping {
    start: *mut u8,
    pages: usize,
}

impl Mapping {
    /// # Errors
    /// If the kernel has no memory to give.
    pub fn new(pages: usize) -> Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever the kernel puts it.
        let start = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, -1, 0) };
        ensure!(start != libc::MAP_FAILED, "failed to map memory: {}", io::Error::last_os_error());
        let mapping = Self { start: start.cast(), pages };
        // A huge page would come back whole after one of its pages was dropped.
        // SAFETY: the mapping was just made with this size.
        let advised = unsafe { libc::madvise(start, pages * PAGE, libc::MADV_NOHUGEPAGE) };
        // PREEMPT_RT kernels have no huge pages and do not know the advice.
        let is_unknown = advised != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
        ensure!(advised == 0 || is_unknown, "failed to forbid huge pages: {}", io::Error::last_os_error());
        // SAFETY: the mapping is this large and writable, and nobody else knows it.
        unsafe { slice::from_raw_parts_mut(mapping.start, pages * PAGE) }.fill(0x5a);
        Ok(mapping)
    }

    /// Address of a page.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn page(&self, number: usize) -> *const u8 {
        assert!(number < self.pages, "there are {} pages", self.pages);
        self.start.wrapping_add(number * PAGE)
    }

    /// Makes a page not resident: the next access faults.
    ///
    /// # Errors
    /// If the kernel refuses, or the page is resident all the same.
    pub fn drop_page(&self, number: usize) -> Result<()> {
        self.advise_away(number)?;
        ensure!(!self.is_resident(number)?, "a dropped page is still resident");
        Ok(())
    }

    /// Drops a page that somebody else may make resident at the same time.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn advise_away(&self, number: usize) -> Result<()> {
        // SAFETY: the page is in the mapping, and its contents do not matter.
        let dropped = unsafe { libc::madvise(self.page(number).cast_mut().cast(), PAGE, libc::MADV_DONTNEED) };
        ensure!(dropped == 0, "failed to drop a page: {}", io::Error::last_os_error());
        Ok(())
    }

    fn is_resident(&self, number: usize) -> Result<bool> {
        let mut residency = 0;
        // SAFETY: the page is in the mapping, and one page gives one byte.
        let asked = unsafe { libc::mincore(self.page(number).cast_mut().cast(), PAGE, &raw mut residency) };
        ensure!(asked == 0, "failed to ask for residency: {}", io::Error::last_os_error());
        Ok(residency & 1 == 1)
    }

    /// Makes a page unreadable. It stays part of the mapping, so that no other one takes its place.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forbid_page(&self, number: usize) -> Result<()> {
        // SAFETY: the page is in the mapping and is not accessed any more but by the kernel.
        let hidden = unsafe { libc::mprotect(self.page(number).cast_mut().cast(), PAGE, libc::PROT_NONE) };
        ensure!(hidden == 0, "failed to hide a page: {}", io::Error::last_os_error());
        self.drop_page(number)
    }
}

// SAFETY: of the memory only the kernel reads and writes, on behalf of system calls.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.pages * PAGE) };
    }
}
