//! Limits of this process (setrlimit(2)): raised as far as they may be, compared with what is needed, and given back to what it
//! starts.

use std::{fs, io, sync::OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    opening::Wanted,
    plan::{Mechanism, Plan},
    points::{Manners, Place, kprobes_of, points_of_floor},
};
use crate::sites::FloorPlaces;

/// What [`raise`] changes.
const RAISED: [Resource; 2] = [Resource::Nofile, Resource::Memlock];

/// What these were.
static ORIGINAL: OnceLock<[Rlimit; 2]> = OnceLock::new();

/// Descriptors of maps and of the object's BTF, of which there are some 20.
const OF_MAPS: u64 = 24;
/// Descriptors of programs: aya's own, ours for statistics, and links of the tracepoints. There are at most 14 programs of kprobes
/// and three of tracepoints.
const OF_PROGRAMS: u64 = 40;
/// Descriptors that come and go: what is read when a module comes, what is waited with, the pipes of a command.
const SPARE: u64 = 24;

/// What is advised beyond the need: for modules that come later, and what else a shell leaves open.
const ADVISED_MORE: u64 = 64;

/// There may be too few descriptors for what is to be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files open (RLIMIT_NOFILE), and measuring takes {needed}, for {n_kprobes} kprobes: allow more, \
     with `ulimit -n {advised}` before it starts, or LimitNOFILE={advised} in its service",
    advised = (needed + ADVISED_MORE).next_multiple_of(ADVISED_MORE)
)]
pub struct TooFewDescriptors {
    /// The limit.
    pub limit: u64,
    /// What is needed, all in all.
    pub needed: u64,
    /// Most of it is for these.
    pub n_kprobes: usize,
}

/// Raises what may be raised, once: open files to the hard limit, since each kprobe takes two; locked memory to no limit, or else
/// to the hard one, since kernels before 5.11 count BPF maps against it (d5299b67dd59 "bpf: Memcg-based memory accounting"). Where
/// that is not enough, it is said by whatever runs into it.
pub fn raise() {
    ORIGINAL.get_or_init(|| {
        let original = RAISED.map(getrlimit);
        let [files, memory] = &original;
        let raised = |limit: &Rlimit| Rlimit { current: limit.maximum, maximum: limit.maximum };
        let unlimited = Rlimit { current: None, maximum: None };
        let outcome = [
            setrlimit(Resource::Nofile, raised(files)),
            setrlimit(Resource::Memlock, unlimited).or_else(|_| setrlimit(Resource::Memlock, raised(memory))),
        ];
        for error in outcome.into_iter().filter_map(Result::err) {
            log::info!("a limit of this process could not be raised: {error}");
        }
        original
    });
}

/// Sets the limits of the calling process to what they were before [`raise`]. It allocates nothing, so that it may be called between
/// fork and exec.
///
/// # Errors
/// As setrlimit(2); lowering them is always allowed.
pub fn give_back() -> io::Result<()> {
    for (resource, limit) in RAISED.into_iter().zip(ORIGINAL.get().into_iter().flatten()) {
        setrlimit(resource, *limit)?;
    }
    Ok(())
}

/// What is to be said where a thread cannot be started.
pub fn why_no_thread(error: &io::Error) -> String {
    let most = getrlimit(Resource::Nproc).current.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    format!(
        "failed to start a thread: {error} (the user may have {most} threads, `ulimit -u` or LimitNPROC=; a service or container \
         further ones, TasksMax= or pids.max)"
    )
}

/// A remedy for a map that the kernel refuses, if it may be for want of locked memory.
pub fn memlock_remedy() -> Option<String> {
    let limit = getrlimit(Resource::Memlock).current?;
    Some(format!(
        "this process may lock {} KiB of memory (RLIMIT_MEMLOCK), against which kernels before 5.11 count BPF maps: `ulimit -l \
         unlimited`, or LimitMEMLOCK=infinity in its service",
        limit / 1024
    ))
}

/// Compares what `plan` takes with what is allowed, for a session that is not started.
///
/// # Errors
/// If it is more.
pub fn ensure_for(plan: &Plan) -> Result<(), TooFewDescriptors> {
    Needs::begin(0, Manners { without_cookies: false, single_points: false }).ensure(plan, Some(&plan.floor))
}

/// Descriptors that a session needs, besides those that were open before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Open before, and what the command needs for itself.
    others: u64,
    manners: Manners,
}

impl Needs {
    /// For a session whose command needs `of_command` descriptors itself.
    pub(super) fn begin(of_command: u64, manners: Manners) -> Self {
        let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self { others: open + of_command, manners }
    }

    /// Compares what `plan` takes with what is allowed now.
    ///
    /// # Errors
    /// If it is more.
    pub(super) fn ensure(&self, plan: &Plan, floor: Option<&FloorPlaces>) -> Result<(), TooFewDescriptors> {
        let (needed, n_kprobes) = self.of(plan, floor);
        match getrlimit(Resource::Nofile).current {
            Some(limit) if limit < needed => Err(TooFewDescriptors { limit, needed, n_kprobes }),
            _ => Ok(()),
        }
    }

    /// All descriptors that there are with `plan` attached, and the kprobes among what is attached.
    fn of(&self, plan: &Plan, floor: Option<&FloorPlaces>) -> (u64, usize) {
        let not_attached = |_: Place| false;
        let kprobes: Vec<(&str, Wanted)> = kprobes_of(plan, self.manners, not_attached);
        let n_kprobes = kprobes.len() + floor.map_or(0, |floor| points_of_floor(floor).len());
        let is_tracing = |mechanism: Result<Mechanism, _>| mechanism == Ok(Mechanism::Trampoline);
        let n_tracing = 2 * plan.paths.iter().filter(|planned| is_tracing(self.manners.mechanism_of(planned))).count();
        let n_targets = 2 * plan.targets.iter().filter(|planned| planned.traceable).count();
        // Each has a program or an event, and a link; without cookies there are no links of events (both came with 5.15).
        let of_kprobe = if self.manners.without_cookies { 1 } else { 2 };
        let of_points = of_kprobe * (n_kprobes + n_targets) + 2 * n_tracing;
        (self.others + OF_MAPS + OF_PROGRAMS + SPARE + of_points as u64, n_kprobes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_raised_and_given_back() {
        let before = RAISED.map(getrlimit);
        raise();
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, before[0].maximum);
        give_back().expect("lowered");
        let after = RAISED.map(getrlimit);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((before.current, before.maximum), (after.current, after.maximum));
        }
    }

    #[test]
    fn the_limit_the_need_and_the_remedy_are_named() {
        let text = TooFewDescriptors { limit: 64, needed: 300, n_kprobes: 70 }.to_string();
        for part in ["64", "300", "70 kprobes", "ulimit -n 384", "LimitNOFILE=384"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }
}
