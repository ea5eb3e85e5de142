//! The programs of Debian's prometheus package, unpacked below `target`: installing the package would start a server on this
//! machine.

use std::path::PathBuf;

use anyhow::Result;

use crate::apt;

/// The oldest release whose Prometheus has native histograms: its programs run on that release and all later ones.
const PACKAGE: &str = "prometheus/bookworm";

/// Path of `prometheus` or `promtool`; the package is fetched when it is first asked for.
///
/// # Errors
/// When the package cannot be fetched or does not have the program.
pub fn program(name: &str) -> Result<PathBuf> {
    apt::program(PACKAGE, name)
}
