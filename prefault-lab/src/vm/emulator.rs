//! QEMU of one Debian release, whichever this machine runs, so that guests behave the same everywhere.
//!
//! Before 8.1 several emulated processors could go on with a translation of text that another one had changed meanwhile
//! ("accel/tcg: Always lock pages before translation"): guests ended with an int3 where the kernel had taken it away.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::tree::Tree;
use crate::apt;

const TREE: Tree<'_> = Tree {
    folder: "emulator",
    what: "the emulator",
    suite: "trixie",
    packages: &["qemu-system-x86"],
    archive: &apt::RELEASES,
    extra: &[],
};

/// Where the release has its libraries, and its dynamic loader.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";
/// Where QEMU finds firmware.
const DATA: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// Returns the directory that QEMU is unpacked in, fetching it if it is not there.
///
/// # Errors
/// When a package cannot be fetched or unpacked.
pub fn prepare() -> Result<PathBuf> {
    TREE.prepare((), |_| Ok(()))
}

/// The emulator in `directory`, run by its own release's loader and with its libraries.
#[must_use]
pub fn command(directory: &Path) -> Command {
    let libraries = directory.join(LIBRARIES);
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
    command.arg("--library-path").arg(&libraries).arg(directory.join(PROGRAM));
    let data = DATA.map(|data| [OsString::from("-L"), directory.join(data).into_os_string()]);
    command.args(data.as_flattened());
    command
}
