//! What one write makes a write path do, by kernel: derived from the kernel's source and confirmed by the same writes
//! without the tool. Two-sided: a counter that is to be zero is as much an expectation as one that is not.

use super::{
    families::{ALL, BCACHEFS, BTRFS, Family, GENERIC, IOMAP, Mode, TRY_ONCE},
    kernels::{Span, Version},
    workloads::Kind,
};

/// Where `fault_in_iov_iter_readable`, which returns the bytes it left out, has replaced `iov_iter_fault_in_readable`.
const TELLS_REST_SINCE: Version = (5, 16);
/// "iomap: Copy larger chunks from userspace" is in 6.6.
const IOMAP_FOLIOS_SINCE: Version = (6, 6);
/// Seen on 7.3 and not on 7.2.
const IOMAP_KEEPS_ERRORS_SINCE: Version = (7, 3);
/// Seen on 6.16 and not on 6.12; no stock kernel between is tested.
const BTRFS_ONE_FOLIO_SINCE: Version = (6, 15);
/// Seen on 7.2 and not on 6.18; the archive has lost the kernels between.
const BTRFS_FOLIOS_SINCE: Version = (6, 19);

/// What one write of the workload comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerWrite {
    /// 1 if it fails.
    pub errors: u64,
    /// Calls of the prefault.
    pub prefaults: u64,
    /// Those that left something out.
    pub failed: u64,
    /// Those that got nothing.
    pub failed_wholly: u64,
    /// Calls of the copy.
    pub copies: u64,
    /// Pages all copies together took, those taken twice included.
    pub copied_pages: u64,
    /// Copies that took nothing.
    pub zero: u64,
    /// Copies that took some of what was asked.
    pub partial: u64,
}

const NOTHING: PerWrite =
    PerWrite { errors: 0, prefaults: 0, failed: 0, failed_wholly: 0, copies: 0, copied_pages: 0, zero: 0, partial: 0 };

struct Row {
    kinds: &'static [Kind],
    mode: Mode,
    families: &'static [Family],
    kernels: Span,
    per_write: PerWrite,
}

const ROWS: [Row; 22] = [
    // One prefault, one copy. Segments do not matter: the copy goes on from one to the next.
    Row {
        kinds: &[Kind::Resident, Kind::Absent, Kind::Vector],
        mode: Mode::Eager,
        families: ALL,
        kernels: Span::ANY,
        per_write: PerWrite { prefaults: 1, copies: 1, copied_pages: 1, ..NOTHING },
    },
    Row {
        kinds: &[Kind::Resident, Kind::Vector],
        mode: Mode::OnDemand,
        families: GENERIC,
        kernels: Span::ANY,
        per_write: PerWrite { copies: 1, copied_pages: 1, ..NOTHING },
    },
    // The copy gets nothing, the prefault brings the page in, the copy gets it.
    Row {
        kinds: &[Kind::Absent],
        mode: Mode::OnDemand,
        families: GENERIC,
        kernels: Span::ANY,
        per_write: PerWrite { prefaults: 1, copies: 2, copied_pages: 1, zero: 1, ..NOTHING },
    },
    // The prefault gets nothing, which is the end.
    Row {
        kinds: &[Kind::Bad],
        mode: Mode::Eager,
        families: TRY_ONCE,
        kernels: Span::ANY,
        per_write: PerWrite { errors: 1, prefaults: 1, failed: 1, failed_wholly: 1, ..NOTHING },
    },
    // After a prefault that left something out bcachefs tries a page alone (fs/bcachefs/fs-io-buffered.c, 6.12).
    Row {
        kinds: &[Kind::Bad],
        mode: Mode::Eager,
        families: BCACHEFS,
        kernels: Span::ANY,
        per_write: PerWrite { errors: 1, prefaults: 2, failed: 2, failed_wholly: 2, ..NOTHING },
    },
    // The prefault of both pages gets one; the first page alone is prefaulted and copied; the prefault of the second gets
    // nothing, twice.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: BCACHEFS,
        kernels: Span::ANY,
        per_write: PerWrite { prefaults: 4, failed: 3, failed_wholly: 2, copies: 1, copied_pages: 1, ..NOTHING },
    },
    Row {
        kinds: &[Kind::Bad],
        mode: Mode::OnDemand,
        families: GENERIC,
        kernels: Span::ANY,
        per_write: PerWrite { errors: 1, prefaults: 1, failed: 1, failed_wholly: 1, copies: 1, zero: 1, ..NOTHING },
    },
    // The first page is prefaulted and copied; the prefault of the second gets nothing, which ends the write.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::Pages],
        kernels: Span::ANY,
        per_write: PerWrite { prefaults: 2, failed: 1, failed_wholly: 1, copies: 1, copied_pages: 1, ..NOTHING },
    },
    // The first page is copied; the copy of the second gets nothing, and neither does the prefault then.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::OnDemand,
        families: &[Family::Pages, Family::Shmem],
        kernels: Span::ANY,
        per_write: PerWrite {
            prefaults: 1,
            failed: 1,
            failed_wholly: 1,
            copies: 2,
            copied_pages: 1,
            zero: 1,
            ..NOTHING
        },
    },
    // The first prefault is for both pages and gets one, but the folio has room for one only, so that the copy is not short;
    // then as with pages.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::Shmem],
        kernels: Span::ANY,
        per_write: PerWrite { prefaults: 2, failed: 2, failed_wholly: 1, copies: 1, copied_pages: 1, ..NOTHING },
    },
    // The copy of both pages gets one, which write_end refuses; the first page is copied again, alone; the copy of the second
    // gets nothing, and neither does the prefault then.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::OnDemand,
        families: &[Family::Folios],
        kernels: Span::ANY,
        per_write: PerWrite {
            prefaults: 1,
            failed: 1,
            failed_wholly: 1,
            copies: 3,
            copied_pages: 2,
            zero: 1,
            partial: 1,
            ..NOTHING
        },
    },
    // What was written hides the error from the loop over extents, which comes back for the rest: the prefault of the second
    // page gets nothing twice.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: IOMAP,
        kernels: Span::before(IOMAP_FOLIOS_SINCE),
        per_write: PerWrite { prefaults: 3, failed: 2, failed_wholly: 2, copies: 1, copied_pages: 1, ..NOTHING },
    },
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::IomapPages],
        kernels: Span::between(IOMAP_FOLIOS_SINCE, IOMAP_KEEPS_ERRORS_SINCE),
        per_write: PerWrite { prefaults: 3, failed: 2, failed_wholly: 2, copies: 1, copied_pages: 1, ..NOTHING },
    },
    // A chunk is both pages: its prefault gets one, its copy is partial and refused, both are repeated for the first page
    // alone; then as before.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::Iomap],
        kernels: Span::between(IOMAP_FOLIOS_SINCE, IOMAP_KEEPS_ERRORS_SINCE),
        per_write: PerWrite {
            prefaults: 4,
            failed: 3,
            failed_wholly: 2,
            copies: 2,
            copied_pages: 2,
            partial: 1,
            ..NOTHING
        },
    },
    // Later the error ends the loop, so that the second page is tried once.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::Iomap],
        kernels: Span::since(IOMAP_KEEPS_ERRORS_SINCE),
        per_write: PerWrite {
            prefaults: 3,
            failed: 2,
            failed_wholly: 1,
            copies: 2,
            copied_pages: 2,
            partial: 1,
            ..NOTHING
        },
    },
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::IomapPages],
        kernels: Span::since(IOMAP_KEEPS_ERRORS_SINCE),
        per_write: PerWrite { prefaults: 2, failed: 1, failed_wholly: 1, copies: 1, copied_pages: 1, ..NOTHING },
    },
    // The prefault is for the whole chunk, and anything left out of it is an error. Before 5.16 a prefault does not tell how
    // much it left out.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: BTRFS,
        kernels: Span::before(TELLS_REST_SINCE),
        per_write: PerWrite { errors: 1, prefaults: 1, failed: 1, failed_wholly: 1, ..NOTHING },
    },
    // A chunk is as many pages as an array of pointers has room for, ...
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: BTRFS,
        kernels: Span::between(TELLS_REST_SINCE, BTRFS_ONE_FOLIO_SINCE),
        per_write: PerWrite { errors: 1, prefaults: 1, failed: 1, ..NOTHING },
    },
    // ... then what a folio has room for, which is a page, ...
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: BTRFS,
        kernels: Span::between(BTRFS_ONE_FOLIO_SINCE, BTRFS_FOLIOS_SINCE),
        per_write: PerWrite { prefaults: 2, failed: 1, failed_wholly: 1, copies: 1, copied_pages: 1, ..NOTHING },
    },
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::BtrfsPages],
        kernels: Span::since(BTRFS_FOLIOS_SINCE),
        per_write: PerWrite { prefaults: 2, failed: 1, failed_wholly: 1, copies: 1, copied_pages: 1, ..NOTHING },
    },
    // ... and then more.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::Btrfs],
        kernels: Span::since(BTRFS_FOLIOS_SINCE),
        per_write: PerWrite { errors: 1, prefaults: 1, failed: 1, ..NOTHING },
    },
    // No kernel has both, but the table is complete.
    Row {
        kinds: &[Kind::Half],
        mode: Mode::Eager,
        families: &[Family::Folios],
        kernels: Span::ANY,
        per_write: PerWrite {
            prefaults: 3,
            failed: 2,
            failed_wholly: 1,
            copies: 2,
            copied_pages: 2,
            partial: 1,
            ..NOTHING
        },
    },
];

/// What is expected, if anything is.
#[must_use]
pub fn per_write(family: Family, version: Version, kind: Kind) -> Option<PerWrite> {
    rows(family, version, kind).next().map(|row| row.per_write)
}

fn rows(family: Family, version: Version, kind: Kind) -> impl Iterator<Item = &'static Row> {
    let mode = family.mode(version);
    ROWS.iter().filter(move |row| {
        row.kinds.contains(&kind) && row.mode == mode && row.families.contains(&family) && row.kernels.contains(version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{
        filesystems::{self, Group},
        kernels::{Facts, KERNELS},
    };

    #[test]
    fn every_cell_of_the_matrix_has_one_expectation() {
        for kernel in &KERNELS {
            let facts = Facts::of(kernel.series).expect("it is well formed");
            for filesystem in Group::ALL.into_iter().flat_map(|group| filesystems::of(group, facts.version)) {
                let Some(family) = filesystem.family(facts) else { continue };
                for kind in [Kind::Resident, Kind::Absent, Kind::Vector, Kind::Half, Kind::Bad] {
                    let n_rows = rows(family, facts.version, kind).count();
                    assert_eq!(n_rows, 1, "{} {kind:?} on {}", filesystem.name, kernel.series);
                }
            }
        }
    }

    #[test]
    fn expectations_are_consistent() {
        for row in &ROWS {
            let PerWrite { prefaults, failed, failed_wholly, copies, zero, partial, .. } = row.per_write;
            assert!(failed_wholly <= failed && failed <= prefaults, "{:?}", row.per_write);
            assert!(zero + partial <= copies, "{:?}", row.per_write);
            assert!(row.mode == Mode::OnDemand || prefaults >= copies, "{:?}", row.per_write);
        }
    }
}
