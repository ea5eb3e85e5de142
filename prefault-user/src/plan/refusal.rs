//! Why something is not attached, why no plan can be made, and why nothing came of one.

use std::{fmt, io};

use prefault_ebpf::MAX_PATHS;

use crate::{
    data::{Code, Operation, Problem, problem::errno_of},
    sites::NoPath,
};

/// What is advised beyond the need: for modules that come later, and what else a shell leaves open.
const ADVISED_MORE: u64 = 64;

/// Why something is not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The function has no ftrace location.
    NotTraceable(String),
    /// The site is not part of a write path.
    NoPath(NoPath),
    /// It needs ftrace, which is switched off.
    FtraceOff(String),
    /// More paths than the programs can tell apart.
    TooManyPaths,
    /// The path it belongs to is not probed.
    PathNotProbed(String),
    /// Its module was unloaded.
    Unloaded(String),
    /// Too few descriptors for it.
    Descriptors(TooFewDescriptors),
    /// The kernel refused the attachment.
    Kernel {
        /// The error number it answered with (errno(3)), `None` if it was not the kernel that answered.
        errno: Option<i32>,
        /// What it answered, in words.
        what: String,
    },
}

impl Refusal {
    /// That the kernel answered `error`.
    #[must_use]
    pub fn by_kernel(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Kernel { errno: errno_of(error), what: error.to_string() }
    }

    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::NotTraceable(function) => {
                Problem::new(Code::NotTraceable).what(format!("{function} has no ftrace location"))
            }
            Self::NoPath(why) => why.problem(),
            Self::FtraceOff(function) => {
                Problem::new(Code::NeedsFtrace).what(format!("{function} needs a point that ftrace makes"))
            }
            Self::TooManyPaths => Problem::new(Code::TooManyPaths).what(format!("more than {MAX_PATHS} write paths")),
            Self::PathNotProbed(path) => {
                Problem::new(Code::PathNotProbed).what(format!("its write path {path} is not probed"))
            }
            Self::Unloaded(module) => Problem::new(Code::Unloaded).what(format!("the module {module} was unloaded")),
            Self::Descriptors(too_few) => too_few.problem(),
            Self::Kernel { errno, what } => {
                Problem::new(Code::KernelRefused).what("the kernel refused").cause(what).errno(*errno)
            }
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::by_kernel(&error)
    }
}

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// A structure member is missing in BTF.
    NoMember(String),
    /// No enumerator of user memory in BTF.
    NoIterTypes,
    /// fentry was asked for where it is not exact.
    Preemptible,
    /// fentry was asked for where it would not run.
    FtraceOff,
}

impl PlanError {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::NoMember(member) => {
                Problem::new(Code::NoMember).what(format!("the BTF of this kernel has no {member}"))
            }
            Self::NoIterTypes => Problem::new(Code::NoIterTypes),
            Self::Preemptible => Problem::new(Code::FentryPreempted),
            Self::FtraceOff => Problem::new(Code::FentryOff),
        }
    }
}

/// Why nothing is measured although there was a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// fentry was asked for, and the kernel refuses it.
    FentryRefused,
    /// Nothing of one of the two operations could be probed.
    NothingProbed {
        /// Which of the two.
        operation: Operation,
        /// What kept the first call of it from being probed, `None` if there is none.
        why: Option<Problem>,
    },
}

impl StartError {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::FentryRefused => Problem::new(Code::FentryRefused),
            Self::NothingProbed { operation, why } => {
                let problem =
                    Problem::new(Code::NothingProbed).what(format!("no call of the {operation} could be probed"));
                match why {
                    None => problem.cause("no call of it was found"),
                    Some(why) => problem.cause(why.brief()).errno(why.errno),
                }
            }
        }
    }
}

/// There may be too few descriptors for what is to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooFewDescriptors {
    /// The limit.
    pub limit: u64,
    /// What is needed, all in all.
    pub needed: u64,
    /// Most of it is for these.
    pub n_kprobes: usize,
}

impl TooFewDescriptors {
    /// What it is, why, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let Self { limit, needed, n_kprobes } = self;
        let advised = (needed + ADVISED_MORE).next_multiple_of(ADVISED_MORE);
        Problem::new(Code::Descriptors)
            .what(format!("this process may have {limit} files open (RLIMIT_NOFILE)"))
            .cause(format!("measuring takes {needed}, for {n_kprobes} kprobes"))
            .remedy(format!(
                "allow more, with `ulimit -n {advised}` before it starts, or LimitNOFILE={advised} in its service"
            ))
    }
}

macro_rules! shown_as_problem {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.problem().fmt(f)
            }
        }

        impl std::error::Error for $name {}
    )*};
}

shown_as_problem!(Refusal, PlanError, StartError, TooFewDescriptors);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_the_need_and_the_remedy_are_named() {
        let text = TooFewDescriptors { limit: 64, needed: 300, n_kprobes: 70 }.to_string();
        for part in ["64", "300", "70 kprobes", "ulimit -n 384", "LimitNOFILE=384"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }

    #[test]
    fn a_refusal_keeps_what_the_kernel_answered() {
        let refusal = Refusal::from(io::Error::from_raw_os_error(libc::EINVAL));
        assert_eq!((refusal.problem().code, refusal.problem().errno), (Code::KernelRefused, Some(libc::EINVAL)));
        let error = StartError::NothingProbed { operation: Operation::Copy, why: Some(refusal.problem()) };
        assert_eq!((error.problem().code, error.problem().errno), (Code::NothingProbed, Some(libc::EINVAL)));
        assert!(error.to_string().starts_with("no call of the copy could be probed: the kernel refused: Invalid"));
    }
}
