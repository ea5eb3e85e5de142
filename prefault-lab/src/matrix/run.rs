//! What a run is: which kernel, booted in which way. Ways that change the kernel's text run a part of the matrix too.

use super::{
    filesystems::Group,
    kernels::{Facts, REFERENCE, Version},
    workloads::Kind,
};

/// Series on which instructions are counted.
pub const COUNTED: [&str; 2] = ["6.12", "6.18"];

/// The run that something is judged in.
#[derive(Debug, Clone)]
pub struct Context {
    /// The kernel's series.
    pub series: String,
    /// What decides about expectations.
    pub kernel: Facts,
    /// Whether golden files are written instead of compared.
    pub update_golden: bool,
}

/// How the guest is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// As Debian does.
    Plain,
    /// With a lockdown that forbids reading kernel memory.
    Confidentiality,
    /// With a lockdown that does not.
    Integrity,
    /// Calls go to the padding before each function, which counts their depth.
    CallDepth,
    /// Indirect branches are tracked, if the processor can.
    BranchTracking,
    /// They are not.
    NoBranchTracking,
    /// Returns and indirect calls are plain.
    NoMitigations,
    /// All mitigations that the processor needs, without its second threads.
    AllMitigations,
    /// The kernel is where it was linked to.
    NoKaslr,
    /// As Debian does, with systemd as process 1.
    Systemd,
    /// The kernel's clock counts ticks.
    CoarseClock,
    /// On one processor whose clock counts instructions.
    Counted,
}

/// "x86/bugs: Add retbleed=stuff" is in 6.2.
const CALL_DEPTH_SINCE: Version = (6, 2);

impl Boot {
    /// All ways.
    pub const ALL: [Self; 12] = [
        Self::Plain,
        Self::Confidentiality,
        Self::Integrity,
        Self::CallDepth,
        Self::BranchTracking,
        Self::NoBranchTracking,
        Self::NoMitigations,
        Self::AllMitigations,
        Self::NoKaslr,
        Self::Systemd,
        Self::CoarseClock,
        Self::Counted,
    ];

    /// Words added to the kernel's command line.
    #[must_use]
    pub fn append(self) -> &'static str {
        match self {
            Self::Plain | Self::Counted => "",
            Self::Confidentiality => "lockdown=confidentiality",
            Self::Integrity => "lockdown=integrity",
            Self::CallDepth => "retbleed=stuff",
            Self::BranchTracking => "ibt=on",
            Self::NoBranchTracking => "ibt=off",
            Self::NoMitigations => "mitigations=off",
            Self::AllMitigations => "mitigations=auto,nosmt",
            Self::NoKaslr => "nokaslr",
            Self::Systemd => "lab.systemd systemd.unit=lab.service",
            // Without high resolution and idle ticks there may be a clock source that is no good for them.
            Self::CoarseClock => "clocksource=jiffies highres=off nohz=off",
        }
    }

    /// What its guests and cases are called, if they need to be told apart.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counted => "counting instructions",
            Self::Systemd => "systemd",
            Self::CoarseClock => "coarse clock",
            _ => self.append(),
        }
    }

    /// The processor model that it takes, as QEMU names it.
    #[must_use]
    pub fn cpu(self) -> &'static str {
        // Only for Intel's processors of that time does the kernel count the depth of calls.
        if self == Self::CallDepth { "Skylake-Client" } else { "max" }
    }

    /// Whether that kernel is booted so.
    #[must_use]
    pub fn is_for(self, series: &str, version: Version) -> bool {
        match self {
            Self::Plain => true,
            Self::CallDepth => version >= CALL_DEPTH_SINCE,
            Self::Counted => COUNTED.contains(&series),
            _ => series == REFERENCE,
        }
    }

    /// Groups of filesystems that are tested with it.
    #[must_use]
    pub fn groups(self) -> &'static [Group] {
        if self == Self::Plain { &Group::ALL } else { &[Group::Core] }
    }

    /// Whether that part of the matrix is run with it.
    #[must_use]
    pub fn runs(self, kind: Kind) -> bool {
        match self {
            Self::Plain => true,
            Self::Confidentiality | Self::Integrity | Self::Systemd | Self::CoarseClock | Self::Counted => false,
            _ => matches!(kind, Kind::Absent | Kind::Half),
        }
    }
}
