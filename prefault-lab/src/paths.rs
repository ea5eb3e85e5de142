//! Where things are: the workspace, its `target` directory, and locks below it. Everything the task runner writes is below
//! `target`, so that `cargo clean` removes it; only `setup` touches the machine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// A path below the workspace's `target` directory.
#[must_use]
pub fn target(relative: &str) -> PathBuf {
    workspace().join("target").join(relative)
}

/// Where `cargo xtask dist` puts the tool and the programs of its tests, beside what else guests are to have; they have this
/// directory on their path.
#[must_use]
pub fn dist() -> PathBuf {
    target("dist")
}

/// Creates a directory and its parents.
///
/// # Errors
/// When it does not exist and cannot be created.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to create {}", path.display()))
}

/// Removes a directory tree if there is one.
///
/// # Errors
/// When it exists and cannot be removed.
pub fn remove_dir(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

/// Writes a file.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, contents).with_context(|| format!("failed to write {}", path.display()))
}

/// Takes the lock of a directory, waiting for another task runner that has it; dropping the file gives it back.
///
/// # Errors
/// When the directory or its lock file cannot be created.
pub fn lock(directory: &Path) -> Result<File> {
    create_dir(directory)?;
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
    file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(file)
}
