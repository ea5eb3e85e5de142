//! Filesystem types as typed: whether a write to one can ever be seen.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, bail};

use super::mounts::{known_types, main_type, why_not_counted};

/// Where modules are listed, by release.
const MODULES: &str = "/lib/modules";

/// Judges a type that writes are filtered by; the result is what is to be said about it, if anything.
///
/// # Errors
/// If no filesystem that is counted can be of this type: it is not known and no module brings it, or its writes are no buffered
/// ones.
pub fn judge(fstype: &str) -> Result<Option<String>> {
    let known: Vec<String> = known_types()?.into_iter().map(|(name, _)| name).collect();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge_among(fstype, &known, &Path::new(MODULES).join(release.trim_end()))
}

fn judge_among(fstype: &str, known: &[String], modules: &Path) -> Result<Option<String>> {
    if let Some(why) = why_not_counted(fstype) {
        bail!("--fstype {fstype} would count nothing: it is {why}");
    }
    if known.iter().any(|name| name == fstype) {
        return Ok(None);
    }
    let main = main_type(fstype);
    let is_there =
        |name: &str| known.iter().any(|known| known == name) || brought_by_modules(name, modules) == Some(true);
    if main != fstype && is_there(main) {
        bail!("--fstype {fstype} would count nothing: the kernel knows all of these as {main}; give that, or --mount");
    }
    match brought_by_modules(fstype, modules) {
        Some(true) => Ok(None),
        None => Ok(Some(format!(
            "this kernel knows no filesystem type {fstype} now, and whether a module brings it is not known: {} cannot be read",
            modules.display()
        ))),
        Some(false) => {
            let counted: BTreeSet<&str> =
                known.iter().map(String::as_str).filter(|name| why_not_counted(name).is_none()).collect();
            let counted = Vec::from_iter(counted).join(", ");
            bail!("there is no filesystem type {fstype}, and no module that brings it: this kernel has {counted} now")
        }
    }
}

/// Whether a module below `modules` has the alias by which mounting loads it (`fs-TYPE`, get_fs_type in fs/filesystems.c), or its
/// name. `None` if that cannot be read.
fn brought_by_modules(fstype: &str, modules: &Path) -> Option<bool> {
    let plain = |name: &str| name.replace('-', "_");
    let wanted = plain(&format!("fs-{fstype}"));
    let aliases = fs::read(modules.join("modules.alias")).ok()?;
    let aliases = String::from_utf8_lossy(&aliases);
    let is_alias = |line: &str| line.split(' ').nth(1).is_some_and(|alias| plain(alias) == wanted);
    let files = fs::read(modules.join("modules.dep")).unwrap_or_default();
    let files = String::from_utf8_lossy(&files);
    let is_module = |line: &str| {
        let file = line.split(':').next().and_then(|path| path.rsplit('/').next());
        file.and_then(|file| file.split_once(".ko")).is_some_and(|(name, _)| plain(name) == plain(fstype))
    };
    Some(aliases.lines().any(is_alias) || files.lines().any(is_module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_or_brought_by_a_module_or_an_error() {
        let folder = std::env::temp_dir().join(format!("prefault-fstypes-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        fs::write(folder.join("modules.alias"), "# x\nalias fs-ntfs3 ntfs3\nalias fs-b-c bc\n").expect("written");
        fs::write(folder.join("modules.dep"), "kernel/fs/zfs/zfs.ko.xz: spl.ko\nx/ntfs3.ko: \n").expect("written");
        let known = ["ext4", "proc", "fuse"].map(str::to_owned);
        for (fstype, expected) in [
            ("ext4", Ok(None)),
            ("ntfs3", Ok(None)),
            ("b_c", Ok(None)),
            ("zfs", Ok(None)),
            ("nosuch", Err("this kernel has ext4, fuse now")),
            ("spl", Err("no module that brings it")),
            ("ext", Err("there is no filesystem type ext,")),
            ("proc", Err("without a page cache")),
            ("overlay", Err("upper folder")),
            ("fuse.sshfs", Err("as fuse;")),
        ] {
            let judged = judge_among(fstype, &known, &folder);
            match (expected, judged) {
                (Ok(said), Ok(judged)) => assert_eq!(judged, said, "{fstype}"),
                (Err(why), Err(error)) => assert!(error.to_string().contains(why), "{fstype}: {error}"),
                (_, judged) => panic!("{fstype}: {judged:?}"),
            }
        }
        fs::remove_dir_all(&folder).expect("removed");
        let unknown = judge_among("nosuch", &known, &folder).expect("it may come");
        assert!(unknown.expect("said").contains("cannot be read"));
    }
}
