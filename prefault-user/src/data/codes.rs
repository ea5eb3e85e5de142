//! Every code that `prefault doctor` and errors show: one table, with what a code means, why that is, and the remedy.
//!
//! Scripts, bug reports and docs/production.md name codes. So a code keeps its number for good: a new one is added at the end,
//! and the number of one that is no longer needed is not given to another.

use std::fmt;

use serde::{Serialize, Serializer};

/// What the table says about a code.
#[derive(Debug)]
pub struct CodeRow {
    /// The code.
    pub code: Code,
    /// As it is shown: `P` and three digits.
    pub number: &'static str,
    /// What it means, where there is nothing more exact to say.
    pub means: &'static str,
    /// Why that is, or what follows from it, likewise.
    pub cause: &'static str,
    /// What ends it, `None` if nothing can or has to be done.
    pub remedy: Option<&'static str>,
}

macro_rules! codes {
    ($($code:ident = $number:literal: $means:literal, $cause:literal, $remedy:expr;)*) => {
        /// What stands in the way of measuring, or is left out of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $means] $code,)*
        }

        /// The table, in the order of the numbers.
        pub const CODES: &[CodeRow] =
            &[$(CodeRow { code: Code::$code, number: $number, means: $means, cause: $cause, remedy: $remedy },)*];
    };
}

/// What to do about something that the tool has to be taught.
const REPORT_RELEASE: Option<&str> = Some("please report the kernel's release");
const REPORT_FACTS: Option<&str> = Some("please report the kernel's release and `prefault doctor --facts`");
const REPORT: Option<&str> = Some("please report it with `prefault doctor --json`");

codes! {
    Capabilities = "P001": "capabilities are missing",
        "loading BPF programs and reading kernel addresses needs them",
        Some("run prefault with sudo, or add them to what the container or service is given");
    Paranoid = "P002": "sysctl kernel.perf_event_paranoid is above 2",
        "only CAP_SYS_ADMIN may make probes then",
        Some("run prefault with sudo, give the container or service CAP_SYS_ADMIN, or set it to 2");
    NoKprobes = "P003": "this kernel has no kprobe events",
        "/sys/bus/event_source/devices/kprobe is missing",
        Some("use a kernel with CONFIG_KPROBE_EVENTS=y, as the stock kernels of all large distributions have");
    NoSysfs = "P004": "/sys is not mounted",
        "the kernel shows there how kprobes are made",
        Some("mount it, or give the container the host's /sys read-only");
    KprobesOff = "P005": "/sys/kernel/debug/kprobes/enabled is 0",
        "no kprobe runs, and nothing can be measured",
        Some("echo 1 > /sys/kernel/debug/kprobes/enabled");
    Lockdown = "P006": "the kernel is locked down (confidentiality)",
        "that forbids kprobes and reading kernel memory",
        Some("boot with lockdown=integrity or without lockdown=");
    Unreadable = "P007": "a file of the kernel cannot be read",
        "the message has the kernel's answer",
        Some("run prefault with sudo, and give a container the host's /proc and /sys");
    NoSymbols = "P008": "/proc/kallsyms lists no functions",
        "the kernel was built without CONFIG_KALLSYMS",
        Some("use a kernel with CONFIG_KALLSYMS=y");
    // kernel/ksyms_common.c, kallsyms_show_value.
    AddressesHidden = "P009": "/proc/kallsyms hides all addresses",
        "the kernel shows them to a process with CAP_SYSLOG, and to none while sysctl kernel.kptr_restrict is 2",
        Some("run prefault with sudo, and set sysctl kernel.kptr_restrict to 0 or 1");
    NoBtf = "P010": "this kernel has no BTF",
        "/sys/kernel/btf/vmlinux is missing",
        Some("use a kernel with CONFIG_DEBUG_INFO_BTF=y, as the stock kernels of all large distributions since 2020 have");
    BadBtf = "P011": "the kernel's BTF cannot be parsed",
        "it is damaged, or has a form that the tool does not know",
        REPORT_RELEASE;
    NoText = "P012": "the text of the kernel cannot be read",
        "neither /proc/kcore nor a BPF program can read it",
        Some("look whether the kernel is locked down, and what a container's security module forbids");
    NoTarget = "P013": "this kernel has no prefault, or no copy, under any known name",
        "the tool has to learn its new name",
        REPORT_RELEASE;
    NoSite = "P014": "no call of the prefault and the copy was found in the text of this kernel",
        "its calls have a form that the scan does not know",
        REPORT_FACTS;
    NoMember = "P015": "the BTF of this kernel lacks a member of a structure",
        "the tool has to learn what became of it",
        REPORT_RELEASE;
    NoIterTypes = "P016": "the BTF of this kernel does not say which iov_iter types are user memory",
        "the tool has to learn how this kernel tells them apart",
        REPORT_RELEASE;
    FentryPreempted = "P017": "--mechanism fentry would miss calls",
        "this kernel preempts kernel code, and skips a program that another task of the same processor is in",
        Some("use auto");
    FentryOff = "P018": "--mechanism fentry would see nothing",
        "kernel.ftrace_enabled is 0, so that points that ftrace makes do not run",
        Some("use auto, or sysctl kernel.ftrace_enabled=1");
    Descriptors = "P019": "this process may have too few files open (RLIMIT_NOFILE)",
        "each kprobe takes two",
        Some("allow more, with `ulimit -n` before it starts, or LimitNOFILE= in its service");
    FentryRefused = "P020": "--mechanism fentry cannot be had",
        "the kernel refuses it, or passes no cookies to its programs (before 5.19)",
        Some("use auto");
    NothingProbed = "P021": "no call of the prefault, or none of the copy, could be probed",
        "the message has the reason for the first of them",
        REPORT;
    NotPermitted = "P022": "the kernel does not permit something that starting takes (EPERM)",
        "a capability is missing, or BPF is restricted by a security module, lockdown, or the seccomp profile of a container",
        Some("look at what the container or service is given");
    TooManyFiles = "P023": "starting takes more open files than this process may have (EMFILE)",
        "each kprobe takes two",
        Some("allow more open files: `ulimit -n`, or LimitNOFILE= in its service");
    NoMemory = "P024": "the kernel has no memory for something that starting takes (ENOMEM)",
        "the maps have a part for each filesystem slot and each processor",
        Some("fewer --slots take less memory, 6.2 KiB each for each processor");
    Unknown = "P025": "starting failed for a reason that has no code of its own",
        "the message has it",
        REPORT;
    NotTraceable = "P026": "a function has no ftrace location",
        "the kernel refuses probes in such functions (CONFIG_KPROBE_EVENTS_ON_NOTRACE)",
        None;
    NotAWrite = "P027": "a caller is not part of a buffered write",
        "it fills the pages of direct I/O",
        None;
    NotUnderstood = "P028": "a caller is not understood",
        "neither it nor a caller of it takes struct kiocb *",
        REPORT_FACTS;
    NotDescribed = "P029": "a caller has no description",
        "it is not in the BTF of its module, so that its arguments are unknown",
        REPORT_FACTS;
    NeedsFtrace = "P030": "a function needs a point that ftrace makes",
        "kernel.ftrace_enabled is 0, so that points that ftrace makes do not run",
        Some("sysctl kernel.ftrace_enabled=1");
    TooManyPaths = "P031": "there are more write paths than can be told apart",
        "the programs keep counters for a fixed number of paths",
        REPORT_RELEASE;
    PathNotProbed = "P032": "the write path of a call is not probed",
        "its operations would belong to no write",
        None;
    Unloaded = "P033": "the module of a function was unloaded",
        "its points went with it",
        None;
    KernelRefused = "P034": "the kernel refused a point",
        "the message has its answer",
        REPORT;
    CoarseClock = "P035": "this machine's clock advances in long steps",
        "nothing is timed; writes are counted all the same",
        Some("boot with a clock source of the hardware");
    FewSlots = "P036": "more filesystems are mounted than can be told apart",
        "only the first that are written to are",
        Some("raise --slots, or measure fewer with --fstype");
    FtraceOff = "P037": "kernel.ftrace_enabled is 0",
        "points that ftrace makes do not run, and are not used",
        Some("sysctl kernel.ftrace_enabled=1");
    Unread = "P038": "a part of the text could not be read",
        "further calls may be there that are not measured",
        REPORT;
    PointsNotShown = "P039": "what the kernel made of the probes is not shown",
        "/sys/kernel/debug/kprobes/list cannot be read",
        Some("mount debugfs: mount -t debugfs none /sys/kernel/debug");
    CostNotShown = "P040": "what measuring adds to a write is not shown",
        "writing to memory failed",
        None;
}

impl Code {
    /// Its row in the table.
    #[must_use]
    pub fn row(self) -> &'static CodeRow {
        &CODES[self as usize]
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().number)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// What was given out, in the order of the numbers. A line is added for a new code, and none is changed.
    const GIVEN_OUT: [&str; 40] = [
        "Capabilities",
        "Paranoid",
        "NoKprobes",
        "NoSysfs",
        "KprobesOff",
        "Lockdown",
        "Unreadable",
        "NoSymbols",
        "AddressesHidden",
        "NoBtf",
        "BadBtf",
        "NoText",
        "NoTarget",
        "NoSite",
        "NoMember",
        "NoIterTypes",
        "FentryPreempted",
        "FentryOff",
        "Descriptors",
        "FentryRefused",
        "NothingProbed",
        "NotPermitted",
        "TooManyFiles",
        "NoMemory",
        "Unknown",
        "NotTraceable",
        "NotAWrite",
        "NotUnderstood",
        "NotDescribed",
        "NeedsFtrace",
        "TooManyPaths",
        "PathNotProbed",
        "Unloaded",
        "KernelRefused",
        "CoarseClock",
        "FewSlots",
        "FtraceOff",
        "Unread",
        "PointsNotShown",
        "CostNotShown",
    ];

    #[test]
    fn a_code_keeps_its_number() {
        let now: Vec<String> = CODES.iter().map(|row| format!("{} {:?}", row.number, row.code)).collect();
        let given_out: Vec<String> =
            GIVEN_OUT.iter().enumerate().map(|(index, name)| format!("P{:03} {name}", index + 1)).collect();
        assert_eq!(now, given_out);
    }

    #[test]
    fn the_table_has_every_code_once_and_in_order() {
        let numbers: HashSet<&str> = CODES.iter().map(|row| row.number).collect();
        assert_eq!(numbers.len(), CODES.len());
        for (index, row) in CODES.iter().enumerate() {
            assert_eq!(row.code as usize, index, "{}", row.number);
            for text in [Some(row.means), Some(row.cause), row.remedy].into_iter().flatten() {
                assert!(!text.is_empty() && !text.contains(['|', '\n']) && !text.ends_with('.'), "{text:?}");
            }
        }
    }
}
