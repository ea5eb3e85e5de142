//! Builds the BPF programs and leaves the object in OUT_DIR, from where `probe` embeds it.
//!
//! aya-build does the same, but passes every line of the inner cargo on as a warning.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

const PACKAGE: &str = "prefault-ebpf";
const BINARY: &str = "prefault-programs";
const TARGET: &str = "bpfel-unknown-none";

fn main() -> Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    println!("cargo:rerun-if-changed={}", concat!(env!("CARGO_MANIFEST_DIR"), "/../prefault-ebpf"));
    // A target folder of its own: the outer cargo holds the lock of the usual one.
    let target_dir = out_dir.join("target");
    let output = Command::new(env::var_os("CARGO").context("CARGO is not set")?)
        .args(["build", "--package", PACKAGE, "--bin", BINARY, "--features", "programs", "--release"])
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
    fs::copy(target_dir.join(TARGET).join("release").join(BINARY), out_dir.join(BINARY))
        .context("failed to copy the BPF object")?;
    Ok(())
}
