//! Debian packages unpacked side by side, without running any of their scripts, kept until the list of them changes.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    apt::{self, Apt},
    paths,
};

/// What is unpacked where.
#[derive(Hash)]
pub struct Tree<'a> {
    /// Folder below `target/vm`, with one folder in it for each list.
    pub folder: &'a str,
    /// What it is, for people.
    pub what: &'a str,
    /// Debian's release, in which apt looks for what the packages depend on too.
    pub suite: &'a str,
    /// Names of packages.
    pub packages: &'a [&'a str],
}

impl Tree<'_> {
    /// Returns the directory, making it if it is not there. `finish` does what is to be done once, and is made of `parts`.
    ///
    /// # Errors
    /// When a package cannot be fetched or unpacked, or `finish` fails.
    pub fn prepare(&self, parts: impl Hash, finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = paths::target("vm").join(self.folder);
        let _lock = paths::lock(&folder)?;
        let mut hasher = DefaultHasher::new();
        (self, parts).hash(&mut hasher);
        // Guests that still run on another list keep their directory.
        let tree = folder.join(format!("{:016x}", hasher.finish()));
        if tree.exists() {
            return Ok(tree);
        }
        let apt = Apt::open()?;
        let packages = apt.closure(self.suite, self.packages)?;
        eprintln!("vm: fetching and unpacking {} packages for {}", packages.len(), self.what);
        let specifications: Vec<String> =
            packages.iter().map(|package| format!("{}={}", package.name, package.version)).collect();
        let partial = tree.with_extension("partial");
        paths::remove_dir(&partial)?;
        paths::create_dir(&partial)?;
        for file in apt.download(&specifications)? {
            apt::unpack(&file, &partial)?;
        }
        finish(&partial)?;
        fs::rename(&partial, &tree).with_context(|| format!("failed to create {}", tree.display()))?;
        Ok(tree)
    }
}
