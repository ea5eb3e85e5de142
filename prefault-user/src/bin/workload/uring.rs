//! Writes through io_uring, which the kernel does at once or leaves to a thread of its own.

use std::{io, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result};
use io_uring::{IoUring, opcode, squeue::Flags, types};
use prefault_user::workload::{
    Truth,
    file::File,
    memory::{Mapping, PAGE},
};

const IN_FLIGHT: u64 = 8;

/// `count` writes of a page, by worker threads if `by_workers`.
///
/// # Errors
/// If the kernel has no io_uring or a write fails.
pub fn write_all(file: &File, count: u64, by_workers: bool) -> Result<Truth> {
    let mut ring = IoUring::new(IN_FLIGHT as u32).context("failed to set up io_uring")?;
    let memory = Mapping::new(1)?;
    let mut truth = Truth::default();
    for start in (0..count).step_by(IN_FLIGHT as usize) {
        let numbers = start..count.min(start + IN_FLIGHT);
        for number in numbers.clone() {
            let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), memory.page(0), PAGE as u32)
                .offset(number * 2 * PAGE as u64)
                .build()
                .flags(if by_workers { Flags::ASYNC } else { Flags::empty() });
            // SAFETY: the memory and the file outlive the ring's use of them: all completions are waited for below.
            unsafe { ring.submission().push(&entry) }.context("failed to queue a write")?;
        }
        let n_writes = numbers.count();
        ring.submit_and_wait(n_writes)?;
        for completion in ring.completion().take(n_writes) {
            let result = u64::try_from(completion.result());
            truth.count(result.map_err(|_| io::Error::from_raw_os_error(-completion.result())), 0)?;
        }
    }
    Ok(truth)
}
