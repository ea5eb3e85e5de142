//! Descriptors that measuring takes, compared with how many this process may have.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::{
    plan::{
        Mechanism, Plan, TooFewDescriptors,
        points::{Place, ProbeSupport, Wanted, kprobes_of, points_of_floor},
    },
    sites::FloorPlaces,
};

/// Descriptors of maps and of the object's BTF, of which there are some 20.
const OF_MAPS: u64 = 24;
/// Descriptors of programs: aya's own, ours for statistics, and links of the tracepoints. There are at most 14 programs of kprobes
/// and three of tracepoints.
const OF_PROGRAMS: u64 = 40;
/// Descriptors that come and go: what is read when a module comes, what is waited with, the pipes of a command.
const SPARE: u64 = 24;

/// Compares what `plan` takes with what is allowed, for a session that is not started.
///
/// # Errors
/// If it is more.
pub fn ensure_for(plan: &Plan) -> Result<(), TooFewDescriptors> {
    Needs::begin(0, ProbeSupport { without_cookies: false, single_points: false }).ensure(plan, Some(&plan.floor))
}

/// Descriptors that a session needs, besides those that were open before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Open before, and what the command needs for itself.
    others: u64,
    manners: ProbeSupport,
}

impl Needs {
    /// For a session whose command needs `of_command` descriptors itself.
    pub(super) fn begin(of_command: u64, manners: ProbeSupport) -> Self {
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
