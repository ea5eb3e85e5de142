//! Landlock: which files can be reached, and no new TCP connections.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use super::Confinement;
use crate::data;

/// What is asked for; a kernel with less gives what it has (5.13 files, 6.7 TCP, 6.12 signals and abstract
/// sockets).
const ASKED: ABI = ABI::V6;
/// Where the kernel shows itself. They are allowed whole: a rule belongs to an inode, and those of single files below them
/// are made anew whenever the kernel has let go of them.
const KERNEL: [&str; 2] = ["/proc", "/sys"];

/// Restricts this thread and those it starts.
///
/// # Errors
/// If the kernel refuses something that it has, or a path that is there cannot be opened.
pub fn apply(confinement: &Confinement) -> Result<data::Landlock> {
    let status = restrict(confinement).context("failed to apply landlock")?;
    Ok(match status {
        RulesetStatus::FullyEnforced => data::Landlock::Full,
        RulesetStatus::PartiallyEnforced => data::Landlock::Partial,
        RulesetStatus::NotEnforced => data::Landlock::Missing,
    })
}

fn restrict(confinement: &Confinement) -> Result<RulesetStatus> {
    let Confinement { readable, writable, connects, .. } = confinement;
    let network = if *connects { AccessNet::BindTcp.into() } else { AccessNet::from_all(ASKED) };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ASKED))?
        .handle_access(network)?
        // The socket of the service manager is connected, and goes on even if it has no name in a filesystem.
        .scope(Scope::from_all(ASKED))?
        .create()?;
    let kernel = KERNEL.iter().map(Path::new);
    // Who needs a path that is not there says so better.
    let is_there = |path: &&Path| path.exists();
    for path in kernel.chain(readable.iter().map(PathBuf::as_path)).filter(is_there) {
        ruleset = allow(ruleset, path, AccessFs::ReadFile | AccessFs::ReadDir)?;
    }
    for path in writable.iter().map(PathBuf::as_path).filter(is_there) {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile;
        ruleset = allow(ruleset, path, access | AccessFs::Truncate)?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

fn allow(ruleset: RulesetCreated, path: &Path, access: landlock::BitFlags<AccessFs>) -> Result<RulesetCreated> {
    let opened = PathFd::new(path).with_context(|| format!("failed to open {}", path.display()))?;
    // Of a file only rights of files can be given.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ASKED) };
    Ok(ruleset.add_rule(PathBeneath::new(opened, access))?)
}
