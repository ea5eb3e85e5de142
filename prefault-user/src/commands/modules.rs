//! Modules that come and go while measuring.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often the folder is read at most while its number of links stays: a module may have been replaced.
const READ_EVERY: Duration = Duration::from_millis(250);

/// Watches the modules below one folder, normally /sys/module.
#[derive(Debug)]
pub struct ModuleWatch {
    path: PathBuf,
    folder: File,
    /// Links of the folder, of which each module is one.
    links: u64,
    /// Says how many events the kernel has announced, normally /sys/kernel/uevent_seqnum; a module that has been loaded is
    /// one of them. `None` where there is no such file.
    announced: Option<File>,
    n_announced: Option<u64>,
    /// How often the folder is read at most although its links have not changed.
    read_every: Duration,
    read: Instant,
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
    /// Begins with the modules that are loaded now: `path` is their folder, `announced` the file with the number of events.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn begin(path: &Path, announced: &Path) -> io::Result<Self> {
        let folder = File::open(path)?;
        let announced = File::open(announced).ok();
        // Before the list: what comes in between is then looked at twice.
        let n_announced = number(announced.as_ref());
        let links = folder.metadata()?.nlink();
        Ok(Self {
            path: path.to_owned(),
            folder,
            links,
            announced,
            n_announced,
            read_every: READ_EVERY,
            read: Instant::now(),
            known: list(path)?,
        })
    }

    /// What has changed since the last look.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn look(&mut self) -> io::Result<Changes> {
        // Reading the folder is what costs. A module that comes or goes changes the number of links; where one has been
        // replaced meanwhile, its coming was announced after its folder was made.
        let n_announced = number(self.announced.as_ref());
        let links = self.folder.metadata()?.nlink();
        let may_be_replaced = n_announced.is_none() || n_announced != self.n_announced;
        if links == self.links && !(may_be_replaced && self.read.elapsed() >= self.read_every) {
            return Ok(Changes::default());
        }
        (self.links, self.n_announced, self.read) = (links, n_announced, Instant::now());
        let now = list(&self.path)?;
        let missing_in = |from: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>| {
            from.iter().filter(|(name, inode)| other.get(*name) != Some(inode)).map(|(name, _)| name.clone()).collect()
        };
        let changes = Changes { unloaded: missing_in(&self.known, &now), loaded: missing_in(&now, &self.known) };
        self.known = now;
        Ok(changes)
    }
}

/// The number that the file has now.
fn number(file: Option<&File>) -> Option<u64> {
    let mut text = [0; 24];
    let n_read = file?.read_at(&mut text, 0).ok()?;
    str::from_utf8(&text[..n_read]).ok()?.trim().parse().ok()
}

fn list(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.ino())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of modules with one of them, and the file with the number of events, of which there was one.
    fn laid_out(name: &str) -> [PathBuf; 3] {
        let above = std::env::temp_dir().join(format!("prefault-{name}-{}", std::process::id()));
        let [modules, announced] = ["module", "announced"].map(|part| above.join(part));
        fs::create_dir_all(modules.join("xfs")).expect("a folder for the test");
        fs::write(&announced, "1\n").expect("written");
        [above, modules, announced]
    }

    /// Another module of the same name.
    fn replace(modules: &Path) {
        // The new one is made before the old one goes, so that it cannot get its inode number.
        fs::create_dir(modules.join("new")).expect("created");
        fs::remove_dir(modules.join("xfs")).expect("removed");
        fs::rename(modules.join("new"), modules.join("xfs")).expect("renamed");
    }

    fn replaced() -> Changes {
        Changes { unloaded: vec!["xfs".to_owned()], loaded: vec!["xfs".to_owned()] }
    }

    #[test]
    fn modules_that_come_go_and_come_back_are_seen() {
        let [above, modules, announced] = laid_out("modules");
        fs::remove_file(&announced).expect("removed");
        let mut watch = ModuleWatch::begin(&modules, &announced).expect("readable");
        assert_eq!(watch.look().expect("not read again"), Changes::default());
        watch.read_every = Duration::ZERO;
        assert_eq!(watch.look().expect("readable"), Changes::default());
        replace(&modules);
        assert_eq!(watch.look().expect("readable"), replaced());
        fs::remove_dir_all(&above).expect("removed");
        assert!(watch.look().is_err());
    }

    #[test]
    fn a_module_that_was_replaced_is_seen_once_its_coming_is_announced() {
        let [above, modules, announced] = laid_out("announced");
        let mut watch = ModuleWatch::begin(&modules, &announced).expect("readable");
        watch.read_every = Duration::ZERO;
        replace(&modules);
        assert_eq!(watch.look().expect("not read again"), Changes::default());
        fs::write(&announced, "2\n").expect("written");
        // An event that comes too soon after a reading is not forgotten.
        watch.read_every = Duration::MAX;
        assert_eq!(watch.look().expect("not read again"), Changes::default());
        watch.read_every = Duration::ZERO;
        assert_eq!(watch.look().expect("readable"), replaced());
        assert_eq!(watch.look().expect("not read again"), Changes::default());
        fs::create_dir(modules.join("f2fs")).expect("created");
        let loaded = Changes { loaded: vec!["f2fs".to_owned()], ..Changes::default() };
        assert_eq!(watch.look().expect("readable"), loaded, "before it is announced");
        fs::remove_dir_all(&above).expect("removed");
    }
}
