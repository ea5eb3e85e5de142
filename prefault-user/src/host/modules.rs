//! Modules that come and go while measuring.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// Watches the modules below one folder, normally /sys/module.
#[derive(Debug)]
pub struct ModuleWatch {
    folder: PathBuf,
    /// Links of the folder, of which each module is one.
    links: u64,
    /// Inode number by name: a module that was unloaded and loaded again has a new one, even at the same address.
    known: BTreeMap<String, u64>,
}

/// What has changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Modules that are gone, or were replaced.
    pub unloaded: Vec<String>,
    /// Modules that are new, or replace one.
    pub loaded: Vec<String>,
}

impl ModuleWatch {
    /// Begins with the modules that are loaded now.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn begin(folder: &Path) -> io::Result<Self> {
        let links = fs::metadata(folder)?.nlink();
        Ok(Self { folder: folder.to_owned(), links, known: list(folder)? })
    }

    /// What has changed since the last look, as far as the number of modules has.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn glance(&mut self) -> io::Result<Changes> {
        // Reading the folder is what costs; a module that comes or goes changes the number of links.
        let links = fs::metadata(&self.folder)?.nlink();
        if links == self.links { Ok(Changes::default()) } else { self.look() }
    }

    /// Forgets that `modules` were seen, so that the next look, or glance, finds them new.
    pub fn see_anew(&mut self, modules: &[String]) {
        self.known.retain(|name, _| !modules.contains(name));
        self.links = 0;
    }

    /// What has changed since the last look.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn look(&mut self) -> io::Result<Changes> {
        self.links = fs::metadata(&self.folder)?.nlink();
        let now = list(&self.folder)?;
        let missing_in = |from: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>| {
            from.iter().filter(|(name, inode)| other.get(*name) != Some(inode)).map(|(name, _)| name.clone()).collect()
        };
        let changes = Changes { unloaded: missing_in(&self.known, &now), loaded: missing_in(&now, &self.known) };
        self.known = now;
        Ok(changes)
    }
}

fn list(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.ino())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_come_go_and_come_back_are_seen() {
        let folder = std::env::temp_dir().join(format!("prefault-modules-{}", std::process::id()));
        fs::create_dir_all(folder.join("xfs")).expect("a folder for the test");
        let mut watch = ModuleWatch::begin(&folder).expect("readable");
        assert_eq!(watch.look().expect("readable"), Changes::default());
        // The new one is made before the old one goes, so that it cannot get its inode number.
        fs::create_dir(folder.join("new")).expect("created");
        fs::remove_dir(folder.join("xfs")).expect("removed");
        fs::rename(folder.join("new"), folder.join("xfs")).expect("renamed");
        let both = vec!["xfs".to_owned()];
        assert_eq!(watch.glance().expect("not read"), Changes::default());
        assert_eq!(watch.look().expect("readable"), Changes { unloaded: both.clone(), loaded: both.clone() });
        assert_eq!(watch.glance().expect("not read"), Changes::default());
        watch.see_anew(&both);
        assert_eq!(watch.glance().expect("read"), Changes { unloaded: Vec::new(), loaded: both });
        fs::remove_dir_all(&folder).expect("removed");
        assert!(watch.look().is_err());
    }
}
