//! Why something is not attached, and why no plan can be made.

use prefault_ebpf::MAX_PATHS;

use crate::{data::Silence, sites::NoPath};

/// What is advised beyond the need: for modules that come later, and what else a shell leaves open.
const ADVISED_MORE: u64 = 64;

/// Why something is not attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The function has no ftrace location.
    #[error(
        "{0} has no ftrace location, and the kernel refuses probes in such functions (CONFIG_KPROBE_EVENTS_ON_NOTRACE)"
    )]
    NotTraceable(String),
    /// The site is not part of a write path.
    #[error("{0}")]
    NoPath(NoPath),
    /// It needs ftrace, which is switched off.
    #[error("{0} needs a point that ftrace makes, and {off}: {remedy}", off = Silence::FtraceOff.row().now,
            remedy = Silence::FtraceOff.row().remedy)]
    FtraceOff(String),
    /// More paths than the programs can tell apart.
    #[error("more than {MAX_PATHS} write paths")]
    TooManyPaths,
    /// The path it belongs to is not probed.
    #[error("its write path {0} is not probed")]
    PathNotProbed(String),
    /// Its module was unloaded.
    #[error("the module {0} was unloaded")]
    Unloaded(String),
    /// Too few descriptors for it.
    #[error("{0}")]
    Descriptors(TooFewDescriptors),
    /// The kernel refused the attachment.
    #[error("the kernel refused: {0}")]
    Kernel(String),
}

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A structure member is missing in BTF.
    #[error(
        "the BTF of this kernel has no {0}: the tool has to learn what became of it, please report the kernel's release"
    )]
    NoMember(String),
    /// No enumerator of user memory in BTF.
    #[error(
        "the BTF of this kernel does not say which iov_iter types are user memory: please report the kernel's release"
    )]
    NoIterTypes,
    /// fentry was asked for where it is not exact.
    #[error(
        "--mechanism fentry would miss calls: this kernel preempts kernel code, and skips a program that another task of \
         the same processor is in; use auto"
    )]
    Preemptible,
    /// fentry was asked for where it would not run.
    #[error("--mechanism fentry would see nothing: {}; use auto, or {}", Silence::FtraceOff.row().now,
            Silence::FtraceOff.row().remedy)]
    FtraceOff,
}

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
}
