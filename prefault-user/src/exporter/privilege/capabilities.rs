//! Which capabilities stay, and why.
//!
//! Tried on Debian's 5.10, 6.12 and 7.3: a process of another user with CAP_BPF, CAP_PERFMON and CAP_SYSLOG does all that
//! measuring takes, and lacking any one of them it does not. CAP_SYS_RESOURCE is not needed: before 5.11 maps count against
//! RLIMIT_MEMLOCK, which was raised before.

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};

use crate::host::environment::PARANOID_FOR_PERFMON;

/// What a capability that stays is for.
const REASONS: [(Capability, &str); 4] = [
    (Capability::CAP_BPF, "reads the counters, and loads programs for modules that are loaded later"),
    (Capability::CAP_PERFMON, "makes probes in modules that are loaded later"),
    (Capability::CAP_SYSLOG, "reads the addresses of modules that are loaded later"),
    (
        Capability::CAP_SYS_ADMIN,
        "makes probes while sysctl kernel.perf_event_paranoid is above 2; set it to 2 to do without",
    ),
];

/// The capabilities, of those in `status` (/proc/self/status), that are needed as long as the process lives.
#[must_use]
pub fn needed(status: &str, paranoid_level: Option<i32>) -> CapsHashSet {
    let permitted = crate::data::capability_set(status, "CapPrm:");
    let has = |capability: &Capability| permitted & capability.bitmask() != 0;
    let fine = [Capability::CAP_BPF, Capability::CAP_PERFMON];
    let mut needed: CapsHashSet = fine.into_iter().chain([Capability::CAP_SYSLOG]).filter(has).collect();
    let is_paranoid = paranoid_level.is_some_and(|level| level > PARANOID_FOR_PERFMON);
    // It stands in for the finer ones, if these were not given.
    if (is_paranoid || !fine.iter().all(|capability| needed.contains(capability))) && has(&Capability::CAP_SYS_ADMIN) {
        needed.insert(Capability::CAP_SYS_ADMIN);
    }
    needed
}

/// Names and purposes of `kept`.
#[must_use]
pub fn reasons(kept: &CapsHashSet) -> Vec<(String, &'static str)> {
    let kept = REASONS.iter().filter(|(capability, _)| kept.contains(capability));
    kept.map(|(capability, why)| (capability.to_string(), *why)).collect()
}

/// Empties the set beyond which no program that is executed can get; true if it could not, for want of CAP_SETPCAP.
///
/// # Errors
/// If the kernel refuses for another reason.
pub fn empty_bounding_set() -> Result<bool> {
    let bounding = caps::read(None, CapSet::Bounding).context("failed to read the bounding set")?;
    if bounding.is_empty() {
        return Ok(false);
    }
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).context("failed to read the capabilities")? {
        return Ok(true);
    }
    for capability in bounding {
        caps::drop(None, CapSet::Bounding, capability)
            .with_context(|| format!("failed to drop {capability} from the bounding set"))?;
    }
    Ok(false)
}

/// Gives up everything but `kept`.
///
/// # Errors
/// If the kernel refuses.
pub fn keep(kept: &CapsHashSet) -> Result<()> {
    let give_up = || -> Result<(), caps::errors::CapsError> {
        caps::clear(None, CapSet::Ambient)?;
        // One after the other: what is effective has to be permitted.
        caps::set(None, CapSet::Effective, kept)?;
        caps::set(None, CapSet::Permitted, kept)?;
        caps::clear(None, CapSet::Inheritable)
    };
    give_up().context("failed to give up capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed_of(permitted: &str, paranoid_level: i32) -> Vec<String> {
        let status = format!("CapInh:\t0000000000000000\nCapPrm:\t{permitted}\n");
        let mut names: Vec<String> = needed(&status, Some(paranoid_level)).iter().map(Capability::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn three_are_needed_and_a_fourth_where_the_kernel_wants_it() {
        const ALL: &str = "000001ffffffffff";
        assert_eq!(needed_of(ALL, 2), ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"]);
        assert_eq!(needed_of(ALL, 3), ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN"]);
        assert_eq!(needed_of("000000c400000000", 3), ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"]);
        assert_eq!(needed_of("0000000400200000", 2), ["CAP_SYSLOG", "CAP_SYS_ADMIN"], "it stands in for the two");
        assert_eq!(needed_of("0000000000000000", 3), [""; 0]);
    }

    #[test]
    fn every_one_that_can_stay_has_a_reason() {
        let all: CapsHashSet = caps::all();
        assert_eq!(reasons(&all).len(), REASONS.len());
        assert_eq!(reasons(&CapsHashSet::from([Capability::CAP_BPF]))[0].0, "CAP_BPF");
    }
}
