//! bpf-linker, which turns rustc's bitcode into a BPF object. It has to be built with the LLVM of the Rust compiler: its
//! default features would fetch an LLVM of its own.

use std::process::Command;

use anyhow::{Context as _, Result};
use prefault_lab::process;

use super::announce;

const VERSION: &str = "0.13.0";
const SERIES: &str = "bpf-linker 0.13.";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LLVM_FEATURE: &str = "llvm-22";

/// Whether a bpf-linker of the right series is on the path and starts.
pub fn is_installed() -> bool {
    process::output(Command::new("bpf-linker").arg("--version")).is_ok_and(|version| version.starts_with(SERIES))
}

/// Builds and installs it where cargo keeps programs.
///
/// # Errors
/// When cargo cannot fetch or build it.
pub fn install() -> Result<()> {
    announce(&format!("bpf-linker {VERSION}"), "rustc cannot link BPF objects by itself; building it takes minutes");
    let mut command = process::cargo("install");
    command.env("LLVM_PREFIX", LLVM_PREFIX).args(["bpf-linker", "--version", VERSION, "--force"]);
    // The work is LLVM's, which is not built here.
    command.args(["--no-default-features", "--features", LLVM_FEATURE, "--debug"]).env("CARGO_PROFILE_DEV_DEBUG", "0");
    process::run_visibly(&mut command).with_context(|| format!("failed to install bpf-linker {VERSION}"))
}
