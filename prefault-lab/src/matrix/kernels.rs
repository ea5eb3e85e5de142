//! Which kernels the tests boot, and spans of versions in which something is expected. Only the tests know versions; the
//! tool itself decides by what it finds.

use anyhow::{Context as _, Result};

/// First two numbers of a release.
pub type Version = (u32, u32);

/// A series of the matrix.
#[derive(Debug)]
pub struct Kernel {
    /// As `cargo xtask vm --kernel` takes it.
    pub series: &'static str,
    /// Tested if no kernels are named.
    pub by_default: bool,
}

const fn default(series: &'static str) -> Kernel {
    Kernel { series, by_default: true }
}

const fn further(series: &'static str) -> Kernel {
    Kernel { series, by_default: false }
}

/// Every series that is tested.
pub const KERNELS: [Kernel; 14] = [
    default("5.10"),
    default("6.1"),
    default("6.12"),
    default("6.18"),
    default("7.3"),
    further("6.16"),
    further("6.17"),
    further("6.19"),
    further("7.0"),
    further("7.1"),
    further("7.2"),
    further("6.1-rt"),
    further("7.3-rt"),
    further("6.12-cloud"),
];

/// The kernel on which what depends on no kernel is tested.
pub const REFERENCE: &str = "6.12";
/// The oldest, the reference, and the newest, which preempts and has no other choice.
pub const SPREAD: [&str; 3] = ["5.10", REFERENCE, "7.3"];

/// Versions from `since` until before `before`.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    since: Version,
    before: Version,
}

const FIRST: Version = (0, 0);
const LAST: Version = (u32::MAX, 0);

impl Span {
    /// All versions.
    pub const ANY: Self = Self { since: FIRST, before: LAST };

    /// That version and later ones.
    #[must_use]
    pub const fn since(version: Version) -> Self {
        Self { since: version, before: LAST }
    }

    /// Earlier versions.
    #[must_use]
    pub const fn before(version: Version) -> Self {
        Self { since: FIRST, before: version }
    }

    /// From the first until before the second.
    #[must_use]
    pub const fn between(since: Version, before: Version) -> Self {
        Self { since, before }
    }

    /// Whether the version is in it.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        (self.since..self.before).contains(&version)
    }
}

/// What decides about expectations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its version.
    pub version: Version,
    /// Page-cache folios can have more than a page. It takes CONFIG_TRANSPARENT_HUGEPAGE, which PREEMPT_RT excludes.
    pub large_folios: bool,
}

impl Facts {
    /// Those of a series and flavour.
    ///
    /// # Errors
    /// When it is not of the form `6.12` or `6.12-rt`.
    pub fn of(series: &str) -> Result<Self> {
        Ok(Self { version: version(series)?, large_folios: !series.ends_with("-rt") })
    }
}

/// The version of a series, whatever its flavour.
fn version(series: &str) -> Result<Version> {
    let number = series.split('-').next().unwrap_or(series);
    let parsed = number.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parsed.with_context(|| format!("failed to read kernel series {series:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_listed_once_and_has_a_version() {
        for (index, kernel) in KERNELS.iter().enumerate() {
            assert!(version(kernel.series).is_ok(), "{}", kernel.series);
            assert!(KERNELS[..index].iter().all(|other| other.series != kernel.series), "{}", kernel.series);
        }
        for series in SPREAD {
            assert!(KERNELS.iter().any(|kernel| kernel.series == series && kernel.by_default), "{series}");
        }
    }

    #[test]
    fn spans_include_their_start_and_exclude_their_end() {
        let span = Span::between((6, 6), (6, 16));
        let table = [((6, 5), false), ((6, 6), true), ((6, 15), true), ((6, 16), false), ((5, 10), false)];
        for (version, contained) in table {
            assert_eq!(span.contains(version), contained, "{version:?}");
        }
        assert!(
            Span::ANY.contains((7, 3))
                && Span::since((7, 3)).contains((7, 3))
                && !Span::before((6, 1)).contains((6, 1))
        );
    }
}
