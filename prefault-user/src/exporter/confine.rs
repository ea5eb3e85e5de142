//! What an exporter gives up once everything is attached and open, and what it keeps.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use caps::{CapSet, Capability};

use super::privilege::{Confinement, unconfined, user::Account};
use super::{access::AccessWatch, textfile::folder};
use crate::{
    cli::export::ExportArgs,
    data::{Landlock, Security},
};

/// What is to be given up.
#[derive(Debug)]
pub struct Confining {
    /// `None` if nothing is.
    confinement: Option<Confinement>,
    /// Files that are read again when they have changed.
    files: Vec<PathBuf>,
    /// Those of them that landlock lets be read as long as nothing replaces them.
    single: Vec<PathBuf>,
}

impl Confining {
    /// Finds out before anything is measured.
    ///
    /// # Errors
    /// If the user does not exist, or more could be written than is to be.
    pub fn prepare(args: &ExportArgs, access: &AccessWatch) -> Result<Self> {
        if args.privileges.keep_privileges {
            return Ok(Self { confinement: None, files: Vec::new(), single: Vec::new() });
        }
        let writable: Vec<PathBuf> = args.textfile.as_deref().map(written).transpose()?.into_iter().collect();
        let files: Vec<PathBuf> = access.files().map(Path::to_owned).collect();
        let (readable, single) = readable(&files);
        let confinement = Confinement {
            account: account(args.privileges.user.as_deref())?,
            readable,
            writable,
            connects: connects(args),
            without_landlock: false,
        };
        Ok(Self { confinement: Some(confinement), files, single })
    }

    /// Gives up what is not needed from here on. Nothing may have been started beside this thread.
    ///
    /// # Errors
    /// If the process may not become the user, the kernel refuses, or what is needed later cannot be had any more.
    pub fn apply(&self) -> Result<Security> {
        let Some(confinement) = &self.confinement else { return unconfined() };
        // It is read from /proc/self/auxv once and remembered, with the length of ticks. That file belongs to the superuser later.
        let _page_size = procfs::page_size();
        let left = confinement.apply()?;
        self.can_go_on(confinement, left.uid)?;
        Ok(left)
    }

    /// Tries what will be done again and again, so that it does not end at some later time.
    fn can_go_on(&self, confinement: &Confinement, uid: u32) -> Result<()> {
        for file in &self.files {
            if let Err(error) = fs::File::open(file) {
                bail!(
                    "failed to open {} as user {uid}, who reads it again when it changes: {error}; let that user read it (chgrp or \
                     setfacl), or start with --user root",
                    file.display()
                );
            }
        }
        for folder in &confinement.writable {
            let made = tempfile::Builder::new().prefix("prefault.").tempfile_in(folder);
            if let Err(error) = made.map_err(|error| error.kind())
                && matches!(error, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            {
                bail!(
                    "failed to write in {} as user {uid}: {error}; let that user write there (chown or setfacl), or \
                     start with --user root",
                    folder.display()
                );
            }
        }
        Ok(())
    }

    /// What a user has to know about `left`, a line each.
    pub fn warnings(&self, left: &Security) -> Vec<String> {
        let mut warnings = Vec::new();
        if matches!(left.landlock, Landlock::Full | Landlock::Partial) {
            warnings.extend(self.single.iter().map(|file| {
                format!(
                    "{} is read again only until another file takes its place, since its folder has further folders, which \
                     could all be read: put it into a folder of its own, such as /etc/prefault, or restart after a change",
                    file.display()
                )
            }));
        }
        if left.landlock == Landlock::Missing && left.uid == 0 {
            let files = match left.writable.is_empty() {
                true => "may read each file of root",
                false => "may read each file of root, and make, replace and remove files everywhere",
            };
            warnings.push(format!(
                "this kernel has no landlock, so that the exporter, which stays user 0, {files}: let it become another user (--user)"
            ));
        }
        warnings
    }
}

/// Whom the exporter becomes, `None` if it stays who it is. The superuser becomes somebody else unless told not to.
fn account(asked: Option<&str>) -> Result<Option<Account>> {
    let is_superuser = unconfined()?.uid == 0;
    match asked {
        Some(asked) => {
            let account: Account = asked.parse()?;
            Ok((!is_superuser || account.uid != 0).then_some(account))
        }
        None if is_superuser && may_change()? => Account::own().map(Some),
        None => Ok(None),
    }
}

/// Whether the process may become another user: a container may have been given no capability for that.
fn may_change() -> Result<bool> {
    let has =
        |capability| caps::has_cap(None, CapSet::Effective, capability).context("failed to read the capabilities");
    Ok(has(Capability::CAP_SETUID)? && has(Capability::CAP_SETGID)?)
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

/// The folder of the textfile, which is replaced again and again. With landlock whatever is in it can be written, and in all
/// folders below, so that there must be none: then it is no folder of the system.
fn written(textfile: &Path) -> Result<PathBuf> {
    let folder = folder(textfile);
    let has_folders = has_folders(&folder)
        .with_context(|| format!("failed to look at the folder of --textfile {}", textfile.display()))?;
    ensure!(
        !has_folders,
        "--textfile {} is in a folder that has further folders, in all of which the exporter could then write: give it a folder \
         without, or --keep-privileges",
        textfile.display()
    );
    Ok(folder)
}

/// What has to be readable so that `files` can be read again, and those of them that are readable as long as nothing replaces
/// them. A renewed certificate is another file of the same name, which a rule for its folder lets through; but such a rule
/// lets everything below be read, /etc/shadow too. So a folder that has folders is not opened. What links lead to is meant
/// too, since a file is where it is for landlock, whatever it was reached by.
fn readable(files: &[PathBuf]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut readable, mut single) = (Vec::new(), Vec::new());
    for file in files {
        let target = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        for file in [file.clone(), target] {
            let folder = folder(&file);
            if has_folders(&folder).unwrap_or(true) {
                readable.push(file.clone());
                single.push(file);
            } else {
                readable.push(folder);
            }
        }
    }
    for paths in [&mut readable, &mut single] {
        paths.sort();
        paths.dedup();
    }
    (readable, single)
}

/// Whether there are folders in a folder, besides those whose names begin with two dots: in these Kubernetes keeps what its
/// volumes show (AtomicWriter).
fn has_folders(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_with_folders_is_not_opened() {
        let root = tempfile::tempdir().expect("made");
        let below = root.path().join("below");
        fs::create_dir(&below).expect("made");
        for file in [root.path().join("a.yml"), below.join("b.yml")] {
            fs::write(file, "").expect("written");
        }
        let (shared, own) = (root.path().join("a.yml"), below.join("b.yml"));
        assert_eq!(readable(&[shared.clone(), own]), (vec![shared.clone(), below.clone()], vec![shared.clone()]));
        // What a link leads to is in another folder.
        symlink(&shared, below.join("link")).expect("linked");
        assert_eq!(readable(&[below.join("link")]), (vec![shared.clone(), below.clone()], vec![shared]));
        assert!(written(&below.join("a.prom")).is_ok_and(|folder| folder == below));
        for textfile in [root.path().join("a.prom"), "/a.prom".into(), "/etc/a.prom".into()] {
            let refused = format!("{:#}", written(&textfile).expect_err("it has folders"));
            assert!(refused.contains("further folders") && refused.contains("--keep-privileges"), "{refused}");
        }
    }

    #[test]
    fn a_volume_of_kubernetes_is_a_folder_of_its_own() {
        let volume = tempfile::tempdir().expect("made");
        let version = volume.path().join("..2026_11_28_10_00_00.123456789");
        fs::create_dir(&version).expect("made");
        fs::write(version.join("web.yml"), "").expect("written");
        symlink(version.file_name().expect("named"), volume.path().join("..data")).expect("linked");
        symlink("..data/web.yml", volume.path().join("web.yml")).expect("linked");
        let (readable, single) = readable(&[volume.path().join("web.yml")]);
        assert!(readable.contains(&volume.path().to_owned()) && single.is_empty(), "{readable:?} {single:?}");
    }

    #[test]
    fn the_superuser_is_warned_where_there_is_no_landlock() {
        let confining = Confining { confinement: None, files: Vec::new(), single: vec!["/etc/web.yml".into()] };
        let said = |uid, landlock, writable: &[&str]| {
            let writable = writable.iter().map(PathBuf::from).collect();
            confining.warnings(&Security { uid, landlock, writable, ..Security::default() }).join("\n")
        };
        assert_eq!(said(1000, Landlock::Missing, &[]), "");
        assert!(said(0, Landlock::Missing, &[]).contains("may read each file of root: let"));
        assert!(said(0, Landlock::Missing, &["/a"]).contains("remove files everywhere"));
        assert!(said(0, Landlock::Full, &[]).starts_with("/etc/web.yml is read again only until"));
        assert_eq!(said(0, Landlock::NotApplied, &[]), "");
    }
}
