//! The file for node_exporter's textfile collector, always whole: written beside, then renamed.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
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
    /// Beside it: a rename cannot cross filesystems. Its name does not end in .prom, so that nobody reads it half written.
    partial: PathBuf,
}

impl Textfile {
    /// A file at `path`.
    pub fn new(path: &Path) -> Self {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        Self { path: path.to_owned(), partial: path.with_file_name(name) }
    }

    /// Replaces its contents. What the process itself takes is left out: node_exporter shows the same metrics of its own
    /// process, and refuses a second one.
    ///
    /// # Errors
    /// If it cannot be written; it is then as it was before.
    pub fn write(&self, exported: &Arc<Exported>, buckets: &Buckets) -> Result<()> {
        let exported = Exported { process: None, ..Exported::clone(exported) };
        let text = exposition::text(&Arc::new(exported), buckets)?;
        let written = self.replace(text.as_bytes());
        if written.is_err() {
            // It may be half written, or not be there.
            let _unused = fs::remove_file(&self.partial);
        }
        written.with_context(|| format!("failed to write {}", self.path.display()))
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = fs::File::create(&self.partial)?;
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(&self.partial, &self.path)
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
    use crate::data::{LossReport, Timing};

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
            own_cost: None,
            limited: None,
            sites: Vec::new(),
            process: None,
        })
    }

    #[test]
    fn readers_see_whole_files_only_and_nothing_after_the_end() {
        let path = std::env::temp_dir().join(format!("prefault-{}.prom", std::process::id()));
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
        assert!(!textfile.partial.exists());
        drop(textfile);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let textfile = Textfile::new(Path::new("/nonexistent/a.prom"));
        let error = textfile.write(&exported(0), &Buckets::default()).expect_err("not there");
        assert!(format!("{error:#}").contains("/nonexistent/a.prom"));
    }
}
