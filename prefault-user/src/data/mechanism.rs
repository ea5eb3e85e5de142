//! What is measured at a call, and by what.

use std::fmt;

use serde::{Serialize, Serializer};

/// What is measured at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// The user buffer is faulted in.
    Prefault,
    /// Data is copied with page faults disabled.
    Copy,
}

impl Operation {
    /// Its name in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefault => "prefault",
            Self::Copy => "copy",
        }
    }
}

/// How a pair of points is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// fentry and fexit.
    Trampoline,
    /// A kprobe on the function, and one on each instruction that returns from it.
    ReturnSites,
    /// kprobe and kretprobe on the function.
    FunctionProbe,
    /// kprobes on the call and on the instruction behind it.
    CallSite,
}

impl Mechanism {
    /// Its name in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trampoline => "fentry/fexit",
            Self::ReturnSites => "kprobe/kprobe on return",
            Self::FunctionProbe => "kprobe/kretprobe",
            Self::CallSite => "kprobe",
        }
    }
}

macro_rules! shown_by_name {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    )*};
}

shown_by_name!(Operation, Mechanism);
