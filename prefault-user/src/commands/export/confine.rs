//! What an exporter gives up once everything is attached and open, and what it keeps.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Address, access::AccessWatch};
use crate::{
    cli_export::ExportArgs,
    data::Security,
    privilege::{Confinement, unconfined},
};

/// Gives up what is not needed from here on, unless told not to. Nothing may have been started beside this thread.
///
/// # Errors
/// If the user does not exist or the process may not become it, or the kernel refuses.
pub fn confine(args: &ExportArgs, access: &AccessWatch) -> Result<Security> {
    let privileges = &args.privileges;
    if privileges.keep_privileges {
        return unconfined();
    }
    let account = privileges.user.as_deref().map(str::parse).transpose()?;
    // Their folders, because a renewed certificate is another file of the same name; and those that links lead to, since a file
    // is where it is for landlock, whatever it was reached by.
    let linked: Vec<PathBuf> = access.files().filter_map(|file| fs::canonicalize(file).ok()).collect();
    let readable = folders(access.files().chain(linked.iter().map(PathBuf::as_path)));
    Confinement { account, readable, writable: written(args), connects: connects(args) }.apply()
}

/// Whether it connects to a collector.
#[cfg(feature = "otlp")]
fn connects(args: &ExportArgs) -> bool {
    args.otlp.is_some()
}

/// Whether it connects to anything.
#[cfg(not(feature = "otlp"))]
fn connects(_: &ExportArgs) -> bool {
    false
}

/// Folders of the textfile, which is replaced again and again, and of sockets, which are removed at the end.
fn written(args: &ExportArgs) -> Vec<PathBuf> {
    let sockets = args.listen.iter().filter_map(|address| match address {
        Address::Unix(path) => Some(path.as_path()),
        _ => None,
    });
    folders(sockets.chain(args.textfile.as_deref()))
}

/// The folders that files are in, each once.
fn folders<'a>(files: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = files.map(folder).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// The folder that a file is in.
fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_file_is_never_empty() {
        for (file, expected) in [("/run/a.sock", "/run"), ("a.prom", "."), ("b/a.prom", "b"), ("/a", "/")] {
            assert_eq!(folder(Path::new(file)), Path::new(expected), "{file}");
        }
    }
}
