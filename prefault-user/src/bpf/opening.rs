//! Making kprobes and taking them away, many at the same time.
//!
//! Each waits for the kernel's optimiser, so that they are made on threads, of which a few are enough. But those that a jump could
//! cover are made one after the other. Between the two steps of making a kprobe it is known but not armed, and the kernel makes
//! jumps over such ones (arch/x86/kernel/kprobes/opt.c, arch_check_optimized_kprobe): made at the same time, the places of the
//! floor, 2 bytes apart, became text that was half a jump, and the tool died of it.

use crate::plan::points::Wanted;
use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    thread,
};

use super::attach::Link;

const STACK_BYTES: usize = 64 * 1024;
/// More only wait for one another, and they spin while they do: with 32 a start took 18 to 20 s of kernel time, with 4 15 to 17
/// (6.12, 2 emulated processors), in the same time or a little less.
const MOST_THREADS: usize = 4;
/// No jump covers what is so far behind its place: 5 bytes, and up to the end of the last of these instructions
/// (arch/x86/include/asm/kprobes.h, MAX_OPTIMIZED_LENGTH).
const REACH_BYTES: u64 = 20;

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

/// Makes all of `wanted` by `open`, and meanwhile does `meanwhile`.
pub(super) fn open_beside<M>(
    wanted: &[Wanted],
    open: impl Fn(Wanted) -> io::Result<OwnedFd> + Sync,
    meanwhile: impl FnOnce() -> M,
) -> (Opened, M) {
    let opened = Mutex::new(Opened::default());
    let open = |wanted| {
        let event = open(wanted);
        opened.lock().unwrap_or_else(PoisonError::into_inner).add(wanted, event);
    };
    let meanwhile = on_threads(neighbourhoods(wanted.to_vec(), |wanted| wanted.address), open, meanwhile);
    (opened.into_inner().unwrap_or_else(PoisonError::into_inner), meanwhile)
}

/// Takes away what the links attach: each waits until no processor can be in its probe any more. Those of trampolines, which have
/// no address, are one group; they are few.
pub(super) fn close_all(links: Vec<Link>) {
    on_threads(neighbourhoods(links, |link| link.address.unwrap_or_default()), drop, || ());
}

/// Runs `run` on the elements of each group in order, the groups at the same time, and meanwhile `meanwhile`. The threads that
/// it starts have ended when it returns; where it can start none, the groups come last.
fn on_threads<T: Send, M>(groups: Vec<Vec<T>>, run: impl Fn(T) + Sync, meanwhile: impl FnOnce() -> M) -> M {
    let n_threads = groups.len().min(MOST_THREADS);
    let queue = Mutex::new(groups.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).flatten().for_each(&run);
    thread::scope(|scope| {
        let start = |_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok();
        let threads: Vec<_> = (0..n_threads).filter_map(start).collect();
        let meanwhile = meanwhile();
        // What no thread has done.
        work();
        // Leaving the scope would not wait for the threads themselves.
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        meanwhile
    })
}

/// Parts `probes` by their addresses, so that those near one another stay together, in their order.
fn neighbourhoods<T>(probes: Vec<T>, address: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut by_address: Vec<(usize, T)> = probes.into_iter().enumerate().collect();
    by_address.sort_by_key(|(_, probe)| address(probe));
    let mut groups: Vec<Vec<(usize, T)>> = Vec::new();
    for probe in by_address {
        let is_near = |last: &(usize, T)| address(&probe.1) - address(&last.1) < REACH_BYTES;
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(is_near) => group.push(probe),
            _ => groups.push(vec![probe]),
        }
    }
    groups.iter_mut().for_each(|group| group.sort_unstable_by_key(|&(number, _)| number));
    groups.into_iter().map(|group| group.into_iter().map(|(_, probe)| probe).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(address: u64) -> Wanted {
        Wanted { address, on_return: false }
    }

    #[test]
    fn all_are_made_once() {
        for n_wanted in [0, 1, 1000] {
            let all: Vec<Wanted> = (0..n_wanted).map(|number| wanted(number * 100)).collect();
            let open = |wanted: Wanted| Err(io::Error::from_raw_os_error(wanted.address as i32));
            let (mut opened, meanwhile) = open_beside(&all, open, || "meanwhile");
            for wanted in all {
                let code = opened.take(wanted).map(|event| event.expect_err("refused").raw_os_error());
                assert_eq!(code, Some(Some(wanted.address as i32)));
                assert!(opened.take(wanted).is_none());
            }
            assert_eq!(meanwhile, "meanwhile");
        }
    }

    #[test]
    fn those_that_are_near_stay_together_in_their_order() {
        let groups = |addresses: &[u64]| neighbourhoods(addresses.to_vec(), |&address| address);
        assert_eq!(groups(&[140, 100, 1000, 119, 1020]), [vec![100, 119], vec![140], vec![1000], vec![1020]]);
        assert_eq!(groups(&[130, 100, 115]), [vec![130, 100, 115]]);
    }

    #[test]
    fn two_kprobes_may_be_wanted_in_one_place() {
        let mut opened = Opened::default();
        for _ in 0..2 {
            opened.add(wanted(1), Err(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        assert!(opened.take(Wanted { on_return: true, ..wanted(1) }).is_none());
        assert!(opened.take(wanted(1)).is_some() && opened.take(wanted(1)).is_some());
        assert!(opened.take(wanted(1)).is_none());
    }
}
