//! The file for node_exporter's textfile collector, always whole: written beside, then renamed.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};

use crate::{
    data::Exported,
    output::exposition::{self, Buckets},
};

/// node_exporter runs as a user of its own, whatever the umask of a service is.
const MODE: u32 = 0o644;

/// A file that is written again and again.
#[derive(Debug)]
pub struct Textfile {
    path: PathBuf,
    /// What it is in.
    folder: PathBuf,
    /// The begin of the name under which it is written, beside it: a rename cannot cross filesystems. That name does not end in
    /// .prom, so that nobody reads it half written.
    partial: OsString,
}

impl Textfile {
    /// A file at `path`.
    pub fn new(path: &Path) -> Self {
        let mut partial = path.file_name().unwrap_or_default().to_owned();
        partial.push(".");
        Self { path: path.to_owned(), folder: folder(path), partial }
    }

    /// Replaces its contents. What the process itself takes is left out: node_exporter shows the same metrics of its own
    /// process, and refuses a second one.
    ///
    /// # Errors
    /// If it cannot be written; it is then as it was before.
    pub fn write(&self, exported: &Arc<Exported>, buckets: &Buckets) -> Result<()> {
        let exported = Exported { process: None, ..Exported::clone(exported) };
        let text = exposition::text(&Arc::new(exported), buckets)?;
        self.replace(text.as_bytes()).with_context(|| format!("failed to write {}", self.path.display()))
    }

    /// The new file has a name that nobody can know before, is made by this call or not at all, and is removed if it does not
    /// become the file: in a folder where others may write too, a link is not followed and nothing else is overwritten.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // An error that names the file would be another one each time, and be said each time.
        let mut code = None;
        let new = |path: &Path| {
            let mut options = fs::OpenOptions::new();
            let opened = options.write(true).create_new(true).mode(0o600).open(path);
            opened.inspect_err(|error| code = error.raw_os_error())
        };
        let made = tempfile::Builder::new().prefix(&self.partial).make_in(&self.folder, new);
        let mut partial = made.map_err(|error| code.map_or(error, io::Error::from_raw_os_error))?;
        partial.as_file().set_permissions(fs::Permissions::from_mode(MODE))?;
        partial.as_file_mut().write_all(bytes)?;
        // After a crash of the host the name leads to the old contents or to the new ones, and not to an empty file.
        partial.as_file().sync_data()?;
        partial.persist(&self.path)?;
        Ok(())
    }
}

/// The folder that a file is in.
pub fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

impl Drop for Textfile {
    /// Old numbers would be taken for present ones.
    fn drop(&mut self) {
        // It may not have been written yet.
        let _unused = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;
    use crate::data::{LossReport, Silenced, Timing};

    fn exported(uptime_ns: u64) -> Arc<Exported> {
        Arc::new(Exported {
            kernel: "6.12".to_owned(),
            uptime_ns,
            begin_unix_ns: 0,
            timing: Timing::All,
            floor: None,
            filesystems: Vec::new(),
            n_over_limit: 0,
            n_without_slot: 0,
            exemplars: Vec::new(),
            loss: LossReport::default(),
            silenced: Silenced::default(),
            own_cost: None,
            limited: None,
            sites: Vec::new(),
            process: None,
        })
    }

    #[test]
    fn readers_see_whole_files_only_and_nothing_after_the_end() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("prefault.prom");
        let textfile = Textfile::new(&path);
        textfile.write(&exported(0), &Buckets::default()).expect("written");
        let length = fs::read(&path).expect("there").len();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(fs::read(&path).expect("always there").len(), length);
                }
            });
            for round in 0..500 {
                textfile.write(&exported(round % 10 * 1_000_000_000), &Buckets::default()).expect("written");
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(names(folder.path()), ["prefault.prom"]);
        drop(textfile);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn links_of_others_lead_nowhere() {
        let folder = tempfile::tempdir().expect("made");
        let (path, target) = (folder.path().join("prefault.prom"), folder.path().join("target"));
        fs::write(&target, "precious").expect("written");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("set");
        // The name that it had before, and the name that it is to have.
        let predicted = folder.path().join(format!("prefault.prom.{}", std::process::id()));
        for link in [&path, &predicted] {
            std::os::unix::fs::symlink(&target, link).expect("linked");
        }
        Textfile::new(&path).write(&exported(0), &Buckets::default()).expect("written");
        assert_eq!(fs::read_to_string(&target).expect("there"), "precious");
        assert_eq!(fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_put_in_its_place_is_not_left_behind() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("prefault.prom");
        fs::create_dir(&path).expect("made");
        Textfile::new(&path).write(&exported(0), &Buckets::default()).expect_err("a folder is there");
        assert_eq!(names(folder.path()), ["prefault.prom"]);
    }

    #[test]
    fn the_folder_of_a_file_is_never_empty() {
        for (file, expected) in [("/run/a.sock", "/run"), ("a.prom", "."), ("b/a.prom", "b"), ("/a", "/")] {
            assert_eq!(folder(Path::new(file)), Path::new(expected), "{file}");
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("there");
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let textfile = Textfile::new(Path::new("/nonexistent/a.prom"));
        let said = || format!("{:#}", textfile.write(&exported(0), &Buckets::default()).expect_err("not there"));
        assert_eq!(said(), "failed to write /nonexistent/a.prom: No such file or directory (os error 2)");
    }
}
