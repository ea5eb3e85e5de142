//! The workloads of the matrix. One entry adds one to every kernel and filesystem.

use super::{
    filesystems::{Filesystem, Group},
    kernels::{Span, Version},
};

/// Kinds of writes, as the workload knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 4 KiB from memory that is resident.
    Resident,
    /// 4 KiB from a page that was dropped just before.
    Absent,
    /// 4 KiB from three resident segments.
    Vector,
    /// 8 KiB of which the second page cannot be read.
    Half,
    /// 4 KiB from an address that cannot be read.
    Bad,
    /// 2 to 64 pages of which some, chosen at random, were dropped just before.
    Holes,
    /// 1 byte to 16 MiB, to a random place.
    Sizes,
    /// O_APPEND.
    Append,
    /// splice(2) from a pipe.
    Splice,
    /// sendfile(2) from a file.
    Sendfile,
    /// copy_file_range(2) from a file.
    CopyFileRange,
    /// io_uring.
    Uring,
    /// O_DIRECT.
    Direct,
    /// While another thread truncates the file.
    Truncated,
    /// 4 KiB from a page that was dropped just before, while another thread drops it all the time.
    Dropped,
}

impl Kind {
    /// As the workload takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::Absent => "absent",
            Self::Vector => "vector",
            Self::Half => "half",
            Self::Bad => "bad",
            Self::Holes => "holes",
            Self::Sizes => "sizes",
            Self::Append => "append",
            Self::Splice => "splice",
            Self::Sendfile => "sendfile",
            Self::CopyFileRange => "copy-file-range",
            Self::Uring => "uring",
            Self::Direct => "direct",
            Self::Truncated => "truncated",
            Self::Dropped => "dropped",
        }
    }
}

/// One run of the workload on every filesystem of a group, measured as a whole.
#[derive(Debug)]
pub struct Workload {
    /// What is written from, or how.
    pub kind: Kind,
    /// Writes to each filesystem of [`Group::Core`].
    pub on_core: u64,
    /// Writes to each filesystem of [`Group::Further`].
    pub on_further: u64,
    /// Names of the filesystems, if it does not make sense on all.
    pub only: &'static [&'static str],
    /// The kernel may try a write more than once, which is a call of the path and an error each time.
    pub is_retried: bool,
}

const fn everywhere(kind: Kind) -> Workload {
    Workload { kind, on_core: 100, on_further: 100, only: &[], is_retried: false }
}

const fn on_core(kind: Kind) -> Workload {
    Workload { kind, on_core: 100, on_further: 0, only: &[], is_retried: false }
}

/// All of them.
pub const WORKLOADS: [Workload; 15] = [
    everywhere(Kind::Resident),
    everywhere(Kind::Absent),
    everywhere(Kind::Vector),
    everywhere(Kind::Half),
    everywhere(Kind::Bad),
    Workload { on_core: 1000, ..everywhere(Kind::Holes) },
    Workload { on_core: 300, on_further: 50, ..everywhere(Kind::Sizes) },
    everywhere(Kind::Append),
    everywhere(Kind::Splice),
    on_core(Kind::Sendfile),
    // The others share blocks instead of copying them.
    Workload { only: &["ext4", "tmpfs"], ..on_core(Kind::CopyFileRange) },
    Workload { is_retried: true, ..on_core(Kind::Uring) },
    Workload { on_core: 1000, ..on_core(Kind::Truncated) },
    Workload { on_core: 1000, ..on_core(Kind::Dropped) },
    // It journals data, which direct writes would go past, so that they are buffered.
    Workload { only: &["ext4-journal"], on_core: 0, ..everywhere(Kind::Direct) },
];

impl Workload {
    /// Writes to that filesystem on that kernel; none if it is not done there.
    #[must_use]
    pub fn n_writes(&self, filesystem: &Filesystem, version: Version) -> u64 {
        let lacks = |(span, kind): &(Span, Kind)| span.contains(version) && *kind == self.kind;
        let is_left_out =
            filesystem.lacks.iter().any(lacks) || !(self.only.is_empty() || self.only.contains(&filesystem.name));
        match filesystem.group {
            _ if is_left_out => 0,
            Group::Core => self.on_core,
            Group::Further => self.on_further,
        }
    }
}
