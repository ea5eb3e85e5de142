//! The source of Rust's core library, from which `-Z build-std` builds core for the BPF target. rustup has it where it can
//! reach its server; elsewhere Debian's package of the very same compiler version has the same files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use prefault_lab::{
    apt::{self, Apt},
    paths, process,
};

use super::announce;

const PACKAGE: &str = "rust-src";
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// Whether the active toolchain has the source.
///
/// # Errors
/// When there is no Rust compiler.
pub fn is_installed() -> Result<bool> {
    library().map(|library| is_complete(&library))
}

/// Installs the source into the active toolchain if it is not there.
///
/// # Errors
/// When neither rustup nor Debian has the source of this compiler, or the toolchain cannot be written.
pub fn ensure() -> Result<()> {
    let library = library()?;
    if is_complete(&library) {
        return Ok(());
    }
    announce(PACKAGE, "the BPF target has no precompiled core library");
    let mut rustup = Command::new("rustup");
    rustup.env("RUSTUP_MAX_RETRIES", "0").args(["component", "add", PACKAGE]);
    if process::succeeds_within(&mut rustup, RUSTUP_LIMIT) && is_complete(&library) {
        return Ok(());
    }
    from_debian(&library)
}

fn library() -> Result<PathBuf> {
    let sysroot = process::output(process::rustc().args(["--print", "sysroot"]))?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library"))
}

fn is_complete(library: &Path) -> bool {
    library.join("core/src/lib.rs").exists() && library.join("Cargo.lock").exists()
}

fn from_debian(library: &Path) -> Result<()> {
    let banner = process::output(process::rustc().arg("--version"))?;
    let compiler = banner.split_whitespace().nth(1).context("failed to read the version of rustc")?;
    eprintln!("setup: rustup does not have {PACKAGE} {compiler} here, taking it from Debian's package");
    let apt = Apt::open(&apt::RELEASES)?;
    let versions = apt.versions(PACKAGE)?;
    let version = versions.iter().find(|version| is_of_compiler(version, compiler)).with_context(|| {
        format!(
            "failed to install {PACKAGE} {compiler}: neither rustup nor Debian has it here: connect to the internet and \
             run `rustup component add {PACKAGE}`"
        )
    })?;
    let files = apt.download(&[format!("{PACKAGE}={version}")])?;
    let unpacked = paths::target("setup/rust-src");
    paths::remove_dir(&unpacked)?;
    paths::create_dir(&unpacked)?;
    for file in &files {
        apt::unpack(file, &unpacked)?;
    }
    copy(&source_in(&unpacked)?, library)?;
    paths::remove_dir(&unpacked)
}

/// Whether a Debian version (upstream version, then `+` or `-`) is of that compiler.
fn is_of_compiler(version: &str, compiler: &str) -> bool {
    version.strip_prefix(compiler).is_some_and(|rest| rest.starts_with(['+', '-', '~']))
}

fn source_in(unpacked: &Path) -> Result<PathBuf> {
    let sources = unpacked.join("usr/src");
    let entries = fs::read_dir(&sources).with_context(|| format!("failed to read {}", sources.display()))?;
    let mut libraries = entries.filter_map(Result::ok).map(|entry| entry.path().join("library"));
    libraries.find(|library| is_complete(library)).with_context(|| format!("failed to find the library in {PACKAGE}"))
}

fn copy(source: &Path, library: &Path) -> Result<()> {
    let parent = library.parent().context("failed to name the directory of the library source")?;
    let remedy = || format!("failed to write {}: run setup as the owner of the Rust toolchain", parent.display());
    fs::create_dir_all(parent).with_context(remedy)?;
    let partial = parent.join("library.partial");
    paths::remove_dir(&partial)?;
    process::output(Command::new("cp").args(["-rL", "--"]).args([source, &partial])).with_context(remedy)?;
    paths::remove_dir(library)?;
    fs::rename(&partial, library).with_context(remedy)?;
    ensure!(is_complete(library), "failed to install {PACKAGE}: {} is incomplete", library.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_compiler_version_is_taken() {
        assert!(is_of_compiler("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(!is_of_compiler("1.95.01+dfsg1-2", "1.95.0"));
        assert!(!is_of_compiler("1.96.1+dfsg1-2~bpo13+1", "1.95.0"));
    }
}
