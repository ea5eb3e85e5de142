//! What has to be true of the place before anything is tried: privilege, kprobes, lockdown.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    data::{Code, Problem, Silence},
    kernel::switches::is_off,
};

/// Folder of the kprobe performance monitoring unit.
pub const KPROBE_PMU: &str = "/sys/bus/event_source/devices/kprobe";

/// Why the tool cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Capabilities are missing.
    Capabilities {
        /// Their names.
        missing: String,
    },
    /// perf events are for CAP_SYS_ADMIN alone.
    Paranoid {
        /// Its value; Debian's own levels begin at 3.
        level: i32,
    },
    /// The kernel cannot make kprobes.
    NoKprobes,
    /// sysfs is not mounted.
    NoSysfs,
    /// The host has switched all kprobes off.
    KprobesOff,
    /// The kernel is locked down.
    Lockdown,
}

impl Obstacle {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Capabilities { missing } => Problem::new(Code::Capabilities).what(format!("missing {missing}")),
            Self::Paranoid { level } => {
                Problem::new(Code::Paranoid).what(format!("sysctl kernel.perf_event_paranoid is {level}"))
            }
            Self::NoKprobes => Problem::new(Code::NoKprobes),
            Self::NoSysfs => Problem::new(Code::NoSysfs),
            Self::KprobesOff => Problem::new(Code::KprobesOff),
            Self::Lockdown => Problem::new(Code::Lockdown),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

impl std::error::Error for Obstacle {}

/// Capabilities by number (include/uapi/linux/capability.h); CAP_SYS_ADMIN stands in for the last two.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYSLOG: u32 = 34;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Above that, Debian's kernels and those that have the same patch let only CAP_SYS_ADMIN make probes.
pub const PARANOID_FOR_PERFMON: i32 = 2;

/// The PID namespace whose numbers BPF programs see (PROC_PID_INIT_INO in include/linux/proc_ns.h, the same from 3.8 to 7.3).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether processes have the numbers for this process that they have for BPF programs, which are the host's.
pub fn has_process_ids_of_host() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace == Path::new(FIRST_PID_NAMESPACE))
}

/// Which processors there can be, as ranges.
const POSSIBLE_PROCESSORS: &str = "/sys/devices/system/cpu/possible";

/// The highest number that a processor can have, and 1: each has a part of its own in the maps.
///
/// # Errors
/// If the kernel does not say.
pub fn n_processors() -> Result<u32> {
    let context = || format!("failed to read {POSSIBLE_PROCESSORS}");
    let ranges = fs::read_to_string(POSSIBLE_PROCESSORS).with_context(context)?;
    highest_of(&ranges).map(|highest| highest + 1).with_context(context)
}

/// The highest number in ranges like `0-3,8`.
fn highest_of(ranges: &str) -> Option<u32> {
    ranges.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// Everything that stands in the way below `root` (normally `/`), the first thing to mend first.
pub fn obstacles(root: &Path) -> Vec<Obstacle> {
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    let mut obstacles: Vec<Obstacle> = missing_capabilities(&status).into_iter().collect();
    if let Some(level) = paranoid_level(root)
        && level > PARANOID_FOR_PERFMON
        && effective_capabilities(&status).is_none_or(|effective| effective >> CAP_SYS_ADMIN & 1 == 0)
    {
        obstacles.push(Obstacle::Paranoid { level });
    }
    let pmu = Path::new(KPROBE_PMU);
    if !root.join("sys/kernel").exists() {
        obstacles.push(Obstacle::NoSysfs);
    } else if !root.join(pmu.strip_prefix("/").unwrap_or(pmu)).exists() {
        obstacles.push(Obstacle::NoKprobes);
    }
    if is_off(root, Silence::KprobesOff) {
        obstacles.push(Obstacle::KprobesOff);
    }
    let lockdown = fs::read_to_string(root.join("sys/kernel/security/lockdown")).unwrap_or_default();
    // The level that is in force stands in brackets (security/lockdown/lockdown.c, lockdown_read).
    if lockdown.split_whitespace().any(|level| level == "[confidentiality]") {
        obstacles.push(Obstacle::Lockdown);
    }
    obstacles
}

/// Who may make probes, below `root`; `None` where the kernel does not say.
pub fn paranoid_level(root: &Path) -> Option<i32> {
    fs::read_to_string(root.join("proc/sys/kernel/perf_event_paranoid")).ok()?.trim().parse().ok()
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(effective.trim(), 16).ok()
}

fn missing_capabilities(status: &str) -> Option<Obstacle> {
    let effective = effective_capabilities(status)?;
    let has = |capability: u32| effective >> capability & 1 == 1;
    let mut missing = Vec::new();
    if !has(CAP_SYSLOG) {
        missing.push("CAP_SYSLOG");
    }
    if !has(CAP_SYS_ADMIN) {
        let finer = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")];
        missing.extend(finer.into_iter().filter(|&(capability, _)| !has(capability)).map(|(_, name)| name));
    }
    (!missing.is_empty()).then(|| Obstacle::Capabilities { missing: missing.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_ends_the_ranges() {
        for (ranges, highest) in
            [("0\n", Some(0)), ("0-7\n", Some(7)), ("0-3,8\n", Some(8)), ("0,2-5", Some(5)), ("", None)]
        {
            assert_eq!(highest_of(ranges), highest, "{ranges:?}");
        }
    }

    #[test]
    fn the_missing_capabilities_are_named() {
        let missing = |hex: &str| missing_capabilities(&format!("Name:\tx\nCapEff:\t{hex}\n"));
        let named = |names: &str| Some(Obstacle::Capabilities { missing: names.to_owned() });
        assert_eq!(missing("000001ffffffffff"), None);
        assert_eq!(missing("0000000000000000"), named("CAP_SYSLOG, CAP_BPF, CAP_PERFMON"));
        assert_eq!(missing("000000c400000000"), None, "the three fine ones are enough");
        assert_eq!(missing("0000000400000000"), named("CAP_BPF, CAP_PERFMON"));
        assert_eq!(missing("0000000000200000"), named("CAP_SYSLOG"));
    }
}
