//! Call sites and plans of real kernels, from facts that `prefault doctor --facts` saved on them.
//!
//! Each folder below `tests/kernels` is named after the release. `plan.txt`, `config.txt` and `doctor.json` in it are golden files:
//! `UPDATE_GOLDEN=1 cargo test -p prefault-user --test kernels` rewrites them, and the difference is to be reviewed. What
//! the table here says does not come from them.

#[path = "kernels/changed.rs"]
mod changed;
#[path = "kernels/document.rs"]
mod document;
#[path = "kernels/facts.rs"]
mod facts;
mod golden;

use facts::{bytes_of, caller_of, facts, name_of, plan_of, sites_of, start_of};
use iced_x86::{Code, Decoder, DecoderOptions};
use prefault_user::{
    commands::doctor::{
        describe,
        diagnosis::{Diagnosis, Slots},
        planned::Points,
    },
    plan::{Mechanism, PlannedPath},
    sites::{Operation, ProbePlacement},
};

/// What is known of a kernel from elsewhere: its source, its disassembly, its headers.
pub struct Expected {
    /// As `uname -r` prints it.
    pub release: &'static str,
    /// Name of the prefault.
    pub prefault: &'static str,
    /// Name of the copy.
    pub copy: &'static str,
    /// Functions with calls, each with its prefaults (P) and copies (C) in the order of their addresses.
    callers: &'static [(&'static str, &'static str)],
    /// Those of them that are no part of a buffered write.
    not_writes: &'static [&'static str],
    /// Paths that do not copy, neither themselves nor in a helper.
    prefault_only: &'static [&'static str],
    /// Functions and types are those before 5.14.
    is_old: bool,
    /// ITER_UBUF and ITER_IOVEC as bits (include/linux/uio.h, enum iter_type).
    user_iter_types: u32,
    /// Byte offset of `file.f_mapping` (include/linux/fs.h), which moved more often than the others.
    file_mapping: u32,
}

/// Kernels of Debian, with every module loaded that calls one of the two functions.
pub const KERNELS: [Expected; 5] = [
    Expected {
        release: "5.10.0-32-amd64",
        prefault: "iov_iter_fault_in_readable",
        copy: "iov_iter_copy_from_user_atomic",
        callers: &[
            ("generic_perform_write", "PC"),
            ("iomap_write_actor", "PC"),
            ("btrfs_buffered_write.isra.0 [btrfs]", "PP"),
            ("btrfs_copy_from_user [btrfs]", "C"),
            ("f2fs_file_write_iter [f2fs]", "P"),
            ("fuse_perform_write [fuse]", "PC"),
        ],
        not_writes: &[],
        prefault_only: &["f2fs_file_write_iter [f2fs]"],
        is_old: true,
        user_iter_types: 1 << 4,
        file_mapping: 240,
    },
    Expected {
        release: "6.1.0-50-amd64",
        prefault: "fault_in_iov_iter_readable",
        copy: "copy_page_from_iter_atomic",
        callers: &[
            ("generic_perform_write", "PC"),
            ("iomap_file_buffered_write", "PC"),
            ("btrfs_buffered_write [btrfs]", "P"),
            ("btrfs_copy_from_user [btrfs]", "C"),
            ("btrfs_do_write_iter [btrfs]", "P"),
            ("f2fs_file_write_iter [f2fs]", "P"),
            ("fuse_perform_write [fuse]", "PCP"),
            ("gfs2_file_buffered_write [gfs2]", "PP"),
            ("gfs2_file_write_iter [gfs2]", "P"),
        ],
        not_writes: &[],
        prefault_only: &[
            "btrfs_do_write_iter [btrfs]",
            "f2fs_file_write_iter [f2fs]",
            "gfs2_file_buffered_write [gfs2]",
            "gfs2_file_write_iter [gfs2]",
        ],
        is_old: false,
        user_iter_types: 1 << 6 | 1,
        file_mapping: 216,
    },
    Expected {
        release: "6.12.107+deb13-amd64",
        prefault: "fault_in_iov_iter_readable",
        copy: "copy_page_from_iter_atomic",
        callers: &[
            ("generic_perform_write", "PC"),
            ("iomap_file_buffered_write", "PC"),
            ("bch2_write_iter [bcachefs]", "PCP"),
            ("btrfs_buffered_write [btrfs]", "P"),
            ("btrfs_copy_from_user [btrfs]", "C"),
            ("btrfs_direct_write [btrfs]", "P"),
            ("f2fs_file_write_iter [f2fs]", "P"),
            ("fuse_perform_write", "PCP"),
            ("gfs2_file_buffered_write [gfs2]", "PP"),
            ("gfs2_file_write_iter [gfs2]", "PP"),
            ("netfs_perform_write [netfs]", "PCCCCCC"),
            ("ntfs_file_write_iter [ntfs3]", "PC"),
        ],
        not_writes: &[],
        prefault_only: PREFAULT_ONLY,
        is_old: false,
        user_iter_types: 1 | 1 << 1,
        file_mapping: 24,
    },
    Expected {
        release: "6.18.15+deb13-amd64",
        prefault: "fault_in_iov_iter_readable",
        copy: "copy_folio_from_iter_atomic",
        callers: &[
            ("generic_perform_write", "CP"),
            ("iomap_file_buffered_write", "PC"),
            ("btrfs_buffered_write [btrfs]", "PC"),
            ("btrfs_direct_write [btrfs]", "P"),
            ("f2fs_file_write_iter [f2fs]", "P"),
            ("fuse_perform_write", "PCP"),
            ("gfs2_file_buffered_write [gfs2]", "PP"),
            ("gfs2_file_write_iter [gfs2]", "PP"),
            ("netfs_perform_write [netfs]", "PCCCCCC"),
            ("ntfs_file_write_iter [ntfs3]", "PC"),
        ],
        not_writes: &[],
        prefault_only: PREFAULT_ONLY,
        is_old: false,
        user_iter_types: 1 | 1 << 1,
        file_mapping: 16,
    },
    Expected {
        release: "7.3.4+deb13-amd64",
        prefault: "fault_in_iov_iter_readable",
        copy: "copy_folio_from_iter_atomic",
        callers: &[
            ("generic_perform_write", "CP"),
            ("iomap_file_buffered_write", "PC"),
            ("bio_iov_iter_bounce", "C"),
            ("btrfs_buffered_write [btrfs]", "PC"),
            ("btrfs_direct_write [btrfs]", "P"),
            ("f2fs_file_write_iter [f2fs]", "P"),
            ("fuse_perform_write", "PCP"),
            ("gfs2_file_buffered_write [gfs2]", "PP"),
            ("gfs2_file_write_iter [gfs2]", "PP"),
            ("netfs_perform_write [netfs]", "PCCCCCC"),
            ("ntfs_compress_write [ntfs]", "PC"),
        ],
        not_writes: &["bio_iov_iter_bounce"],
        prefault_only: PREFAULT_ONLY,
        is_old: false,
        user_iter_types: 1 | 1 << 1,
        file_mapping: 16,
    },
];

const PREFAULT_ONLY: &[&str] = &[
    "btrfs_direct_write [btrfs]",
    "f2fs_file_write_iter [f2fs]",
    "gfs2_file_buffered_write [gfs2]",
    "gfs2_file_write_iter [gfs2]",
];

/// Compares with the golden file of this name, or writes it if asked to.
fn check(release: &str, name: &str, actual: &str) {
    golden::check(&format!("kernels/{release}/{name}"), actual);
}

#[test]
fn plans_and_constants_are_as_reviewed() {
    for Expected { release, .. } in KERNELS {
        let facts = facts(release);
        assert_eq!(facts.release, release, "a folder is named after its kernel");
        let plan = plan_of(&facts);
        let diagnosis = Diagnosis::new(Some(release.to_owned()), Slots::default(), None);
        let diagnosis = diagnosis.with_plan(&plan, &Points::default());
        check(release, "plan.txt", &describe::plan(&diagnosis));
        check(release, "config.txt", &format!("{:#?}\n", plan.config));
    }
}

#[test]
fn callers_are_those_that_the_kernel_has() {
    for Expected { release, prefault, copy, callers, .. } in KERNELS {
        let sites = sites_of(&facts(release));
        let mut targets: Vec<_> = sites.targets.iter().map(|t| (t.signature.operation, t.signature.name)).collect();
        targets.sort();
        assert_eq!(targets, [(Operation::Prefault, prefault), (Operation::Copy, copy)], "{release}");
        let mut found: Vec<(String, String)> = Vec::new();
        for site in &sites.sites {
            let letter = if site.target.signature.operation == Operation::Prefault { 'P' } else { 'C' };
            match found.iter_mut().find(|(caller, _)| *caller == caller_of(site)) {
                Some((_, letters)) => letters.push(letter),
                None => found.push((caller_of(site), letter.to_string())),
            }
        }
        found.sort();
        let mut expected: Vec<_> = callers.iter().map(|&(c, letters)| (c.to_owned(), letters.to_owned())).collect();
        expected.sort();
        assert_eq!(found, expected, "{release}");
    }
}

#[test]
fn sites_are_exactly_the_calls_that_a_decoder_meets() {
    for Expected { release, .. } in KERNELS {
        let facts = facts(release);
        let sites = sites_of(&facts);
        let targets: Vec<u64> = sites.targets.iter().map(|target| target.address).collect();
        let mut calls = Vec::new();
        for piece in &facts.text {
            let bytes = bytes_of(piece);
            for instruction in Decoder::with_ip(64, &bytes, start_of(piece), DecoderOptions::NONE).iter() {
                if instruction.code() == Code::Call_rel32_64 && targets.contains(&instruction.near_branch_target()) {
                    calls.push((instruction.ip(), instruction.next_ip(), instruction.near_branch_target()));
                }
            }
        }
        calls.sort_unstable();
        let found: Vec<_> = sites.sites.iter().map(|s| (s.call.address, s.call.after, s.target.address)).collect();
        assert_eq!(found, calls, "{release}");
        assert!(sites.sites.iter().all(|site| !site.call.probed && !site.call.redirected), "{release}");
    }
}

#[test]
fn probes_around_a_call_are_near_it_and_on_instructions() {
    for Expected { release, .. } in KERNELS {
        let facts = facts(release);
        let (mut n_begins, mut n_ends) = (0, 0);
        for site in sites_of(&facts).sites {
            let piece = facts.text.iter().find(|piece| start_of(piece) == site.call.caller_address).expect("saved");
            let bytes = bytes_of(piece);
            let starts: Vec<u64> = Decoder::with_ip(64, &bytes, start_of(piece), DecoderOptions::NONE)
                .into_iter()
                .map(|i| i.ip())
                .collect();
            let ProbePlacement { begin, ends, .. } = &site.around;
            let (&begin, &end) = (begin, &ends[0]);
            assert!(
                [&[begin], ends.as_slice()].concat().iter().all(|place| starts.contains(place)),
                "{release}: {site:?}"
            );
            assert!((site.call.address - 24..=site.call.address).contains(&begin), "{release}: {site:?}");
            assert!((site.call.after..site.call.after + 40).contains(&end), "{release}: {site:?}");
            n_begins += u32::from(begin != site.call.address);
            n_ends += u32::from(end != site.call.after);
        }
        assert!(n_begins > 0 && n_ends > 0, "{release}: {n_begins} and {n_ends} were moved");
    }
}

#[test]
fn what_generic_perform_write_asks_for_is_known_behind_its_calls() {
    for Expected { release, .. } in KERNELS {
        for site in sites_of(&facts(release)).sites {
            if site.call.caller == "generic_perform_write" {
                assert!(site.around.behind.is_some(), "{release}: {site:?}");
            }
        }
    }
}

#[test]
fn places_where_a_path_returns_lead_to_exactly_its_return_instructions() {
    let (mut n_returns, mut n_early) = (0, 0);
    for Expected { release, .. } in KERNELS {
        let facts = facts(release);
        for path in sites_of(&facts).paths {
            let Some(returns) = path.returns else { continue };
            let piece = facts.text.iter().find(|piece| start_of(piece) == path.address).expect("paths are saved");
            let bytes = bytes_of(piece);
            let from = |address: u64| {
                let bytes = &bytes[(address - path.address) as usize..];
                Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).into_iter()
            };
            let met: Vec<u64> = from(path.address).filter(|i| i.code() == Code::Retnq).map(|i| i.ip()).collect();
            let led: Vec<u64> = returns
                .iter()
                .filter_map(|&place| {
                    from(place).find(|i| i.code() != Code::Pop_r64).filter(|i| i.code() == Code::Retnq)
                })
                .map(|i| i.ip())
                .collect();
            assert_eq!(led, met, "{release}: {}", path.function);
            assert_eq!(returns.len(), met.len(), "{release}: {}", path.function);
            n_early += returns.iter().filter(|place| !met.contains(place)).count();
            n_returns += met.len();
        }
    }
    assert!(n_early > 0 && n_early < n_returns, "{n_early} of {n_returns}");
}

#[test]
fn sites_and_paths_are_planned_but_for_those_that_are_no_part_of_a_write() {
    for Expected { release, not_writes, prefault_only, is_old, .. } in KERNELS {
        let plan = plan_of(&facts(release));
        for planned in &plan.sites {
            let is_write = !not_writes.contains(&&*caller_of(&planned.site));
            assert_eq!(
                planned.mechanism.as_ref().ok(),
                is_write.then_some(&Mechanism::CallSite),
                "{release}: {planned:?}"
            );
        }
        let mut without_copy = Vec::new();
        for PlannedPath { path, mechanism } in &plan.paths {
            // fentry takes the kiocb as a typed pointer; until 5.17 this path is called with a file instead.
            let takes_file = is_old && path.function == "generic_perform_write";
            let expected = if path.module.is_none() && !takes_file && !plan.preemptible {
                Mechanism::Trampoline
            } else if path.returns.is_some() {
                Mechanism::ReturnSites
            } else {
                Mechanism::FunctionProbe
            };
            assert_eq!(*mechanism, Ok(expected), "{release}: {path:?}");
            if !path.copies {
                without_copy.push(name_of(&path.function, path.module.as_deref()));
            }
        }
        without_copy.sort();
        assert_eq!(without_copy, prefault_only, "{release}");
    }
}

#[test]
fn constants_are_those_of_the_headers() {
    for Expected { release, is_old, user_iter_types, file_mapping, .. } in KERNELS {
        let config = plan_of(&facts(release)).config;
        assert_eq!(config.user_iter_types, user_iter_types, "{release}");
        assert_eq!(config.offsets.file_mapping, file_mapping, "{release}");
        let (bytes, iter) = if is_old { (3, 1) } else { (2, 3) };
        assert_eq!((config.copy_bytes_argument, config.copy_iter_argument), (bytes, iter), "{release}");
        let old = u32::from(is_old);
        assert_eq!((config.prefault_returns_errno, config.copy_keeps_iter), (old, old), "{release}");
        assert_eq!(config.iter_type_ignored, old, "{release}");
    }
}
