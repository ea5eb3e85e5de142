//! Writes of which every number is known: the independent truth that the tool's counts are compared with.
//!
//! Nothing here knows how the tool counts. The self-test runs these writes in the tool's own process, the tests of the
//! project in another one.

pub mod file;
pub mod memory;

use std::{io, ops::AddAssign, path::Path};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use self::{
    file::File,
    memory::{Mapping, PAGE},
};

/// Kinds of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// 1 byte to 16 MiB, small sizes more often, from resident memory, to a random place.
    Sizes,
    /// 4 KiB appended (O_APPEND).
    Append,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Truth {
    /// Calls of a write system call.
    pub writes: u64,
    /// Those whose data came from the kernel's memory.
    pub kernel_writes: u64,
    /// Bytes they returned.
    pub bytes: u64,
    /// Calls that failed as they were meant to.
    pub errors: u64,
    /// Pages that were not resident when a write was to read them, and could be made so.
    pub absent_pages: u64,
}

impl AddAssign for Truth {
    fn add_assign(&mut self, other: Self) {
        let Self { writes, kernel_writes, bytes, errors, absent_pages } = other;
        self.writes += writes;
        self.kernel_writes += kernel_writes;
        self.bytes += bytes;
        self.errors += errors;
        self.absent_pages += absent_pages;
    }
}

impl Truth {
    /// Takes in the result of a write that may fail only with `expected`, an `errno`.
    ///
    /// # Errors
    /// The write's, if it is another one.
    pub fn count(&mut self, result: io::Result<u64>, expected: libc::c_int) -> io::Result<()> {
        self.writes += 1;
        match result {
            Ok(written) => self.bytes += written,
            Err(error) if error.raw_os_error() == Some(expected) => self.errors += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Bits of the largest size.
const MOST_BITS: usize = 24;
/// Pages of the largest source of [`Kind::Holes`].
const HOLES_PAGES: usize = 64;

/// Does `count` writes of `kind` to a new file in `target`, which is removed afterwards, or to `target` itself if it is
/// no directory. `seed` decides everything that is random.
///
/// # Errors
/// If the file cannot be opened or a write fails with anything but EFAULT.
pub fn write_all(kind: Kind, count: u64, seed: u64, target: &Path) -> Result<Truth> {
    let pages = match kind {
        Kind::Sizes => (1 << MOST_BITS) / PAGE,
        Kind::Holes => HOLES_PAGES,
        _ => 2,
    };
    let mut writer = Writer {
        file: File::create(target, if kind == Kind::Append { libc::O_APPEND } else { 0 })?,
        source: Mapping::new(pages)?,
        random: Random(seed),
        truth: Truth::default(),
    };
    if matches!(kind, Kind::Half | Kind::Bad) {
        writer.source.forbid_page(1)?;
    }
    for number in 0..count {
        let result = writer.write(kind, number)?;
        let counted = writer.truth.count(result, libc::EFAULT);
        counted.with_context(|| format!("failed to write to {}", target.display()))?;
    }
    Ok(writer.truth)
}

struct Writer {
    file: File,
    source: Mapping,
    random: Random,
    truth: Truth,
}

impl Writer {
    /// One write; the outer error means that the truth about it is not known.
    fn write(&mut self, kind: Kind, number: u64) -> Result<io::Result<u64>> {
        let position = number * 2 * PAGE as u64;
        Ok(match kind {
            Kind::Resident | Kind::Append => self.file.write(self.source.page(0), PAGE, position),
            Kind::Absent => {
                self.source.drop_page(0)?;
                self.truth.absent_pages += 1;
                self.file.write(self.source.page(0), PAGE, position)
            }
            Kind::Vector => self.file.write_segments(self.source.page(0), &[1000, 3000, 96], position),
            Kind::Half => self.file.write(self.source.page(0), 2 * PAGE, position),
            Kind::Bad => self.file.write(self.source.page(1), PAGE, position),
            Kind::Holes => {
                let pages = 2 + self.random.below(HOLES_PAGES - 1);
                for page in 0..pages {
                    if self.random.below(3) == 0 {
                        self.source.drop_page(page)?;
                        self.truth.absent_pages += 1;
                    }
                }
                let position = self.random.below(1 << 22) as u64;
                self.file.write(self.source.page(0), pages * PAGE, position)
            }
            Kind::Sizes => {
                let size = match number {
                    0 => 1 << MOST_BITS,
                    1 => 1,
                    // The number of bits is what is chosen, the lower of two, so that the sum stays small.
                    _ => {
                        let bits = [0; 2].map(|_| self.random.below(MOST_BITS + 1));
                        1 + self.random.below(1 << bits[0].min(bits[1]))
                    }
                };
                let position = self.random.below(1 << 22) as u64;
                self.file.write(self.source.page(0), size, position)
            }
        })
    }
}

/// xorshift64*: the same numbers for the same seed, on every machine.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 |= u64::from(self.0 == 0);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(kind: Kind, count: u64) -> Truth {
        write_all(kind, count, 1, &std::env::temp_dir()).expect("a folder that can be written to")
    }

    #[test]
    fn writes_from_good_memory_are_whole() {
        for kind in [Kind::Resident, Kind::Absent, Kind::Vector, Kind::Append] {
            let truth = truth(kind, 3);
            assert_eq!((truth.writes, truth.bytes, truth.errors), (3, 3 * PAGE as u64, 0), "{kind:?}");
            assert_eq!(truth.absent_pages, if kind == Kind::Absent { 3 } else { 0 }, "{kind:?}");
        }
    }

    #[test]
    fn a_bad_address_fails_each_time() {
        assert_eq!((truth(Kind::Bad, 3).errors, truth(Kind::Bad, 3).bytes), (3, 0));
    }

    #[test]
    fn random_writes_are_the_same_for_the_same_seed() {
        assert_eq!(truth(Kind::Holes, 5), truth(Kind::Holes, 5));
        assert_eq!(truth(Kind::Sizes, 20), truth(Kind::Sizes, 20));
        assert!(truth(Kind::Holes, 5).absent_pages > 0);
    }
}
