//! `cargo xtask dist`: the tool as one static executable that runs on any kernel and distribution, guests included. The
//! BPF object is built and embedded by the crate's own build script. The workload of the tests is built likewise.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use prefault_lab::{paths, process};

use crate::{notices, setup};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAM: &str = "prefault";
/// The tool, what guests need to test it, and what writes the documents of its packages.
const PROGRAMS: [&str; 5] = [PROGRAM, "workload", "pace", "confined", "documents"];

/// Folder beside the executable, with its licences.
pub const NOTICES: &str = "licenses";

/// Sets the machine up, builds, puts the licences beside what was built, and returns the path of the tool's executable.
///
/// # Errors
/// When something is missing on the machine, the build fails, or a result is not static.
pub fn run() -> Result<PathBuf> {
    setup::run()?;
    let _lock = paths::lock(&paths::target("static"))?;
    build("workload,documents", &PROGRAMS)?;
    for program in PROGRAMS {
        publish(program, program)?;
    }
    notices::write(&paths::dist().join(NOTICES))?;
    Ok(paths::dist().join(PROGRAM))
}

/// Builds the tool with the feature `otlp`, for guests: `prefault-otlp`.
///
/// # Errors
/// As [`run`].
pub fn with_otlp() -> Result<()> {
    setup::run()?;
    let _lock = paths::lock(&paths::target("static"))?;
    build("otlp", &[PROGRAM])?;
    publish(PROGRAM, "prefault-otlp")
}

fn build(features: &str, programs: &[&str]) -> Result<()> {
    // A directory of its own: other flags in the usual one would rebuild everything at each change between the two.
    let mut build = process::cargo("build");
    build.args(["--quiet", "--release", "--target", TARGET, "--target-dir"]).arg(paths::target("static"));
    build.args(["--package", "prefault-user", "--features", features]);
    for program in programs {
        build.args(["--bin", program]);
    }
    process::run_visibly(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))
}

fn publish(program: &str, name: &str) -> Result<()> {
    let built = paths::target("static").join(TARGET).join("release").join(program);
    let image = fs::read(&built).with_context(|| format!("failed to read {}", built.display()))?;
    ensure!(is_static(&image)?, "failed to build a static executable: {} names an interpreter", built.display());
    let path = paths::dist().join(name);
    if !fs::read(&path).is_ok_and(|existing| existing == image) {
        install(&built, &path)?;
    }
    Ok(())
}

/// A guest may be running the old executable, so it is replaced, not written to.
fn install(built: &Path, path: &Path) -> Result<()> {
    paths::create_dir(&paths::dist())?;
    let partial = path.with_extension("partial");
    fs::copy(built, &partial).with_context(|| format!("failed to write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("failed to write {}", path.display()))
}

/// Whether a 64-bit little-endian ELF file has no program header of type `PT_INTERP`.
fn is_static(image: &[u8]) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    ensure!(image.starts_with(b"\x7fELF\x02\x01"), "failed to read an executable: not a 64-bit ELF file");
    let table = u64::from_le_bytes(field(image, 0x20)?);
    let entry_bytes = u64::from(u16::from_le_bytes(field(image, 0x36)?));
    let n_entries = u64::from(u16::from_le_bytes(field(image, 0x38)?));
    for index in 0..n_entries {
        let offset = usize::try_from(table + index * entry_bytes).context("failed to read the program headers")?;
        if u32::from_le_bytes(field(image, offset)?) == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

fn field<const N: usize>(image: &[u8], offset: usize) -> Result<[u8; N]> {
    let bytes = image.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.copied().context("failed to read an executable: it is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_themselves_are_dynamic() {
        let own = fs::read("/proc/self/exe").expect("the running program can be read");
        assert!(!is_static(&own).expect("it is an ELF file"));
    }

    #[test]
    fn what_is_not_elf_is_refused() {
        assert!(is_static(b"#!/bin/sh\n").is_err());
        assert!(is_static(b"\x7fELF\x02\x01\x01").is_err());
    }
}
