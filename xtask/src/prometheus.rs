//! The programs of Debian's prometheus package, unpacked below `target`: installing the package would start a server on this
//! machine.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    apt::{self, Apt},
    paths,
};

/// The oldest release whose Prometheus has native histograms: its programs run on that release and all later ones.
const PACKAGE: &str = "prometheus/bookworm";

/// Path of `prometheus` or `promtool`; the package is fetched when it is first asked for.
///
/// # Errors
/// When the package cannot be fetched or does not have the program.
pub fn program(name: &str) -> Result<PathBuf> {
    let directory = paths::target("prometheus");
    let _lock = paths::lock(&directory)?;
    let program = directory.join("usr/bin").join(name);
    if !program.exists() {
        let files = Apt::open()?.download(&[PACKAGE.to_owned()])?;
        let file = files.first().context("failed to find the package prometheus")?;
        apt::unpack(file, &directory)?;
    }
    program.exists().then_some(program).with_context(|| format!("failed to find {name} in the package prometheus"))
}
