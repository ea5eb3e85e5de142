//! Making kprobes one after the other, on a thread of their own while programs are loaded.
//!
//! Not all at once, though that starts in half the time: the kernel then makes jumps of probes next to one another and takes
//! them back in every order, and guests died of it. Text at the places of the floor was neither the original nor a jump
//! (__x64_sys_get_robust_list on 6.12, on one processor and on two), and a breakpoint was met that no probe belonged to.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    thread,
};

const STACK_BYTES: usize = 64 * 1024;

/// A kprobe to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) address: u64,
    pub(super) on_return: bool,
}

/// Kprobes that were made, or what the kernel answered.
#[derive(Default)]
pub(super) struct Opened(HashMap<Wanted, Vec<io::Result<OwnedFd>>>);

impl Opened {
    pub(super) fn add(&mut self, wanted: Wanted, event: io::Result<OwnedFd>) {
        self.0.entry(wanted).or_default().push(event);
    }

    /// One of those that were made for `wanted`.
    pub(super) fn take(&mut self, wanted: Wanted) -> Option<io::Result<OwnedFd>> {
        self.0.get_mut(&wanted)?.pop()
    }
}

/// Runs `run` on each of `jobs`, one after the other, and meanwhile `meanwhile`; the results are in the order of the jobs. The
/// thread that it starts has ended when it returns. Where it can start none, the jobs come last.
pub(super) fn beside<T: Send, R: Send, M>(
    jobs: Vec<T>,
    run: impl Fn(T) -> R + Sync,
    meanwhile: impl FnOnce() -> M,
) -> (Vec<R>, M) {
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Vec<R> { std::iter::from_fn(next).map(&run).collect() };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok();
        let meanwhile = meanwhile();
        let mut done = match thread.map(thread::ScopedJoinHandle::join) {
            Some(Ok(results)) => results,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Vec::new(),
        };
        done.extend(work());
        (done, meanwhile)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_jobs() {
        for n_jobs in [0, 1, 100] {
            let (results, meanwhile) = beside((0..n_jobs).collect(), |job| job * 2, || "meanwhile");
            assert_eq!(results, (0..n_jobs).map(|job| job * 2).collect::<Vec<_>>());
            assert_eq!(meanwhile, "meanwhile");
        }
    }

    #[test]
    fn two_kprobes_may_be_wanted_in_one_place() {
        let wanted = Wanted { address: 1, on_return: false };
        let mut opened = Opened::default();
        for _ in 0..2 {
            opened.add(wanted, Err(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        assert!(opened.take(Wanted { on_return: true, ..wanted }).is_none());
        assert!(opened.take(wanted).is_some() && opened.take(wanted).is_some());
        assert!(opened.take(wanted).is_none());
    }
}
