//! `cargo xtask setup`: makes a machine able to build and test the workspace. Everything is checked first and only what is
//! missing is installed; nothing is upgraded, and nothing that was already there is changed.

mod bpf_linker;
mod cargo_deny;
pub mod debian;
mod locks;
mod rust_src;

use anyhow::Result;
use prefault_lab::paths;

/// Installs what is missing, saying what and why.
///
/// # Errors
/// When something cannot be had; the message has the remedy.
pub fn run() -> Result<()> {
    if debian::has(&debian::LABORATORY)? && bpf_linker::is_installed() && rust_src::is_installed()? {
        return Ok(());
    }
    // Only a run that installs something waits for another one, which may take minutes.
    let _lock = paths::lock(&paths::target("setup"))?;
    debian::ensure(&debian::LABORATORY)?;
    if !bpf_linker::is_installed() {
        debian::ensure(&debian::BPF_LINKER)?;
        bpf_linker::install()?;
    }
    rust_src::ensure()
}

/// Installs what packages are made with, if it is missing.
///
/// # Errors
/// When it cannot be had; the message has the remedy.
pub fn ensure_packaging() -> Result<()> {
    ensure(&debian::PACKAGING)
}

/// Installs what the container image is built with, if it is missing.
///
/// # Errors
/// When it cannot be had; the message has the remedy.
pub fn ensure_container() -> Result<()> {
    ensure(&debian::CONTAINER)
}

/// Installs what checks licences and sources of crates, if it is missing.
///
/// # Errors
/// When it cannot be had; the message has the remedy.
pub fn ensure_cargo_deny() -> Result<()> {
    if cargo_deny::is_installed() {
        return Ok(());
    }
    let _lock = paths::lock(&paths::target("setup"))?;
    // Another one may have installed it meanwhile.
    if cargo_deny::is_installed() { Ok(()) } else { cargo_deny::install() }
}

fn ensure(needs: &[debian::Need]) -> Result<()> {
    if debian::has(needs)? {
        return Ok(());
    }
    let _lock = paths::lock(&paths::target("setup"))?;
    debian::ensure(needs)
}

fn announce(what: &str, why: &str) {
    eprintln!("setup: installing {what}: {why}");
}
