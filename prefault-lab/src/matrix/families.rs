//! Write paths that behave alike, the function each of them is, and when it prefaults.

use super::kernels::Version;

/// Write paths that behave alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `generic_perform_write` in chunks of a page.
    Pages,
    /// `generic_perform_write` in chunks of a large folio; `write_end` refuses a part of a folio that is not up to date.
    Folios,
    /// `generic_perform_write` in chunks that may be larger than the folios tmpfs has unless mounted with `huge=`.
    Shmem,
    /// `iomap_file_buffered_write`.
    Iomap,
    /// `iomap_file_buffered_write` in chunks of a page.
    IomapPages,
    /// `btrfs_buffered_write`.
    Btrfs,
    /// `btrfs_buffered_write` where folios have one page.
    BtrfsPages,
    /// `bch2_write_iter`, into which the compiler puts bch2_buffered_write.
    Bcachefs,
}

/// Those of `generic_perform_write`.
pub const GENERIC: &[Family] = &[Family::Pages, Family::Folios, Family::Shmem];
/// Those of `iomap_file_buffered_write`.
pub const IOMAP: &[Family] = &[Family::Iomap, Family::IomapPages];
/// Those of `btrfs_buffered_write`.
pub const BTRFS: &[Family] = &[Family::Btrfs, Family::BtrfsPages];
/// That of `bch2_write_iter`.
pub const BCACHEFS: &[Family] = &[Family::Bcachefs];
/// Those that give up after one prefault that got nothing: all but bcachefs.
pub const TRY_ONCE: &[Family] = &[
    Family::Pages,
    Family::Folios,
    Family::Shmem,
    Family::Iomap,
    Family::IomapPages,
    Family::Btrfs,
    Family::BtrfsPages,
];
/// All of them.
pub const ALL: &[Family] = &[
    Family::Pages,
    Family::Folios,
    Family::Shmem,
    Family::Iomap,
    Family::IomapPages,
    Family::Btrfs,
    Family::BtrfsPages,
    Family::Bcachefs,
];

/// When a path prefaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Before every copy.
    Eager,
    /// After a copy of nothing.
    OnDemand,
}

impl Mode {
    /// As the tool says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::OnDemand => "on-demand",
        }
    }
}

/// 665575cff098 "filemap: move prefaulting out of hot write path" is in 6.14.
const ON_DEMAND_SINCE: Version = (6, 14);

impl Family {
    /// The function the tool is to name.
    #[must_use]
    pub fn function(self) -> &'static str {
        match self {
            Self::Pages | Self::Folios | Self::Shmem => "generic_perform_write",
            Self::Iomap | Self::IomapPages => "iomap_file_buffered_write",
            Self::Btrfs | Self::BtrfsPages => "btrfs_buffered_write",
            Self::Bcachefs => "bch2_write_iter",
        }
    }

    /// The same on a kernel that has no large folios.
    #[must_use]
    pub fn without_large_folios(self) -> Self {
        match self {
            Self::Pages | Self::Folios | Self::Shmem => Self::Pages,
            Self::Iomap | Self::IomapPages => Self::IomapPages,
            Self::Btrfs | Self::BtrfsPages => Self::BtrfsPages,
            Self::Bcachefs => Self::Bcachefs,
        }
    }

    /// When its path prefaults on that kernel.
    #[must_use]
    pub fn mode(self, version: Version) -> Mode {
        let is_generic = GENERIC.contains(&self);
        if is_generic && version >= ON_DEMAND_SINCE { Mode::OnDemand } else { Mode::Eager }
    }
}
