//! Making and removing many kprobes at once.
//!
//! One after the other takes seconds. A kprobe that can become a jump wakes the kernel's optimiser, which holds a lock that
//! every other kprobe needs while it waits until each task has slept or been in user mode (kprobe_optimizer in
//! kernel/kprobes.c), 0.1 s each time. Callers that wait together get their turns between two of its runs. What waits outside
//! of the locks, as the release of a program does, they wait for together.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    thread,
};

/// Threads at most; they do nothing but wait.
const MAX_THREADS: usize = 128;

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

/// Runs `run` on each of `jobs`, all at once, and meanwhile `meanwhile`; the results are in the order of the jobs. All threads
/// that it starts have ended when it returns. Where it can start none, one job is run after the other.
pub(super) fn at_once<T: Send, R: Send, M>(
    jobs: Vec<T>,
    run: impl Fn(T) -> R + Sync,
    meanwhile: impl FnOnce() -> M,
) -> (Vec<R>, M) {
    let n_jobs = jobs.len();
    let queue = Mutex::new(jobs.into_iter().enumerate());
    let work = || {
        let mut done = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, job)) = next else { return done };
            done.push((number, run(job)));
        }
    };
    let (mut done, meanwhile) = thread::scope(|scope| {
        let start = |_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (0..n_jobs.min(MAX_THREADS)).map_while(start).collect();
        let meanwhile = meanwhile();
        let mut done = work();
        for thread in threads {
            match thread.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        (done, meanwhile)
    });
    done.sort_by_key(|&(number, _)| number);
    (done.into_iter().map(|(_, result)| result).collect(), meanwhile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_jobs() {
        for n_jobs in [0, 1, 2 * MAX_THREADS] {
            let (results, meanwhile) = at_once((0..n_jobs).collect(), |job| job * 2, || "meanwhile");
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
