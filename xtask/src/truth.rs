//! What the workload says it did: the one form in which the program prints it and the tests read it. It knows nothing of
//! the tool.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Kinds of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 4 KiB from memory that is resident.
    Resident,
    /// 4 KiB from a page that was dropped just before.
    Absent,
    /// 4 KiB from three resident segments.
    Vector,
    /// 8 KiB of which the second page is not mapped.
    Half,
    /// 4 KiB from an address that is not mapped.
    Bad,
}

impl Kind {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::Absent => "absent",
            Self::Vector => "vector",
            Self::Half => "half",
            Self::Bad => "bad",
        }
    }
}

/// What was done to one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// The directory.
    pub directory: PathBuf,
    /// What was written from.
    pub kind: Kind,
    /// Calls of a write system call.
    pub writes: u64,
    /// Bytes they returned.
    pub bytes: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Pages that were not resident when a write was to read them, and could be made so.
    pub absent_pages: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_command_line_takes() {
        for kind in Kind::value_variants() {
            assert_eq!(Kind::from_str(kind.name(), false), Ok(*kind));
        }
    }
}
