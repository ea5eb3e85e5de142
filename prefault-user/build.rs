//! Builds the BPF programs and leaves the objects in OUT_DIR, from where `probe` embeds them.
//!
//! aya-build does the same, but passes every line of the inner cargo on as a warning.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

const PACKAGE: &str = "prefault-ebpf";
const BINARY: &str = "prefault-programs";
const TARGET: &str = "bpfel-unknown-none";

/// Objects by file name, with the features they are built with.
const OBJECTS: [(&str, &str); 2] = [("prefault-programs", "programs"), ("prefault-programs-legacy", "programs,legacy")];

fn main() -> Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    println!("cargo:rerun-if-changed={}", concat!(env!("CARGO_MANIFEST_DIR"), "/../prefault-ebpf"));
    for (object, features) in OBJECTS {
        build(&out_dir, object, features)?;
    }
    Ok(())
}

fn build(out_dir: &Path, object: &str, features: &str) -> Result<()> {
    // A target folder of its own: the outer cargo holds the lock of the usual one.
    let target_dir = out_dir.join("target");
    let output = Command::new(env::var_os("CARGO").context("CARGO is not set")?)
        .args(["build", "--locked", "--package", PACKAGE, "--bin", BINARY, "--features", features, "--release"])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        // The target has no prebuilt core, and building it is a nightly feature that stable allows so.
        .env("RUSTC_BOOTSTRAP", "1")
        // bpf-linker writes BTF from debug information; aya-ebpf reads the architecture of the registers.
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"\x1f-Cdebuginfo=2\x1f-Clink-arg=--btf")
        // Set by the outer cargo for this script, and wrong for another target.
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .context("failed to start cargo")?;
    if !output.status.success() {
        bail!(
            "failed to build the BPF programs (`cargo xtask setup` installs what that needs):\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::copy(target_dir.join(TARGET).join("release").join(BINARY), out_dir.join(object))
        .context("failed to copy the BPF object")?;
    Ok(())
}
