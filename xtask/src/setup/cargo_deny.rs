//! cargo-deny, which checks licences and sources of all crates. Only the tests need it. On the two slow processors of an emulated
//! machine building it took 4 minutes of processor time.

use std::process::Command;

use anyhow::{Context as _, Result};
use prefault_lab::process;

use super::announce;

const VERSION: &str = "0.20.2";
const SERIES: &str = "cargo-deny 0.20.";

/// Whether one of the right series is on the path and starts.
pub fn is_installed() -> bool {
    process::output(Command::new("cargo-deny").arg("--version")).is_ok_and(|version| version.starts_with(SERIES))
}

/// Builds and installs it where cargo keeps programs.
///
/// # Errors
/// When cargo cannot fetch or build it.
pub fn install() -> Result<()> {
    announce(&format!("cargo-deny {VERSION}"), "checks licences and sources of the crates; building it takes minutes");
    let mut command = process::cargo("install");
    // It is run for a second; what optimises it would take three times as long to build.
    command.args(["cargo-deny", "--version", VERSION, "--force", "--debug"]).env("CARGO_PROFILE_DEV_DEBUG", "0");
    process::run_visibly(&mut command).with_context(|| format!("failed to install cargo-deny {VERSION}"))
}
