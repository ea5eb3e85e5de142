//! Debian packages unpacked side by side, without running any of their scripts, kept until the list of them changes.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    apt::{self, Apt, Archive},
    paths,
};

/// What is unpacked where.
pub struct Tree<'a> {
    /// Folder below `target/vm`, with one folder in it for each list.
    pub folder: &'a str,
    /// What it is, for people.
    pub what: &'a str,
    /// Debian's release, in which apt looks for what the packages depend on too.
    pub suite: &'a str,
    /// Names of packages.
    pub packages: &'a [&'a str],
    /// Where they are looked for.
    pub archive: &'a Archive,
    /// Packages that are named as `package/suite`, of a suite that other packages are not to come from and that drops some. When the
    /// archive no longer has one, or the release not what it needs, the tree is made without them, which is said.
    pub extra: &'a [&'a str],
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
        (self.folder, self.what, self.suite, self.packages, parts).hash(&mut hasher);
        self.extra.iter().for_each(|package| package.hash(&mut hasher));
        // Guests that still run on another list keep their directory.
        let tree = folder.join(format!("{:016x}", hasher.finish()));
        if tree.exists() {
            return Ok(tree);
        }
        let apt = Apt::open(self.archive)?;
        let packages = match apt.closure(self.suite, &[self.packages, self.extra].concat()) {
            Err(error) if !self.extra.is_empty() => {
                eprintln!("vm: without {}, and what needs it is not tested: {error:#}", self.extra.join(", "));
                apt.closure(self.suite, self.packages)?
            }
            result => result?,
        };
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
