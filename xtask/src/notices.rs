//! Licence notices of what is inside the executable beside prefault itself: crates, those of the BPF programs included, Rust's
//! standard library, and, because the executable is static, the GNU C library. The tools that do this for crates
//! (cargo-about, cargo-bundle-licenses) choose one text for each licence; here every notice in a crate is passed on as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use prefault_lab::{paths, process};
use serde::Deserialize;

/// The notices of everything.
pub const FILE: &str = "THIRD-PARTY-NOTICES";
/// Those of Rust's standard library and what that has inside, as its makers collect them.
pub const STANDARD_LIBRARY: &str = "RUST-LIBRARY-COPYRIGHT.html";
/// Our own, in the workspace.
pub const OWN: [&str; 3] = ["LICENSE-MIT", "LICENSE-APACHE", "prefault-ebpf/LICENSE-GPL-2.0"];

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAMS_TARGET: &str = "bpfel-unknown-none";
/// What the tool has inside, and what the programs inside it have.
const LINKED: [&[&str]; 2] = [
    &["--package", "prefault-user", "--target", TARGET],
    &["--package", "prefault-ebpf", "--features", "programs", "--target", PROGRAMS_TARGET],
];
/// How the names of files with notices begin, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "UNLICENSE", "COPYING", "COPYRIGHT", "NOTICE"];
/// Texts for crates that come without any, by the name of the crate.
const MISSING: &str = "packaging/notices";
const C_LIBRARY: &str = "/usr/share/doc/libc6-dev/copyright";
const C_LIBRARY_LICENCE: &str = "/usr/share/common-licenses/LGPL-2.1";
const RULE: &str = "================================================================================";

/// A crate that is inside the executable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Linked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
    repository: Option<String>,
}

impl Package {
    fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }
}

/// Writes all notices and our own licences into a folder.
///
/// # Errors
/// When cargo does not know what is linked, or a notice is missing or cannot be read.
pub fn write(folder: &Path) -> Result<()> {
    paths::create_dir(folder)?;
    paths::write(&folder.join(FILE), text(&linked()?)?)?;
    for licence in OWN.map(|path| paths::workspace().join(path)) {
        let name = licence.file_name().context("failed to name a licence")?;
        fs::copy(&licence, folder.join(name)).with_context(|| format!("failed to copy {}", licence.display()))?;
    }
    let sysroot = process::output(process::rustc().args(["--print", "sysroot"]))?;
    let collected = Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html");
    fs::copy(&collected, folder.join(STANDARD_LIBRARY))
        .with_context(|| format!("failed to copy {}, the notices of Rust's library", collected.display()))?;
    Ok(())
}

/// The licences of everything in the executable, as one SPDX expression.
///
/// # Errors
/// As [`linked`].
pub fn expression() -> Result<String> {
    let own = ["MIT OR Apache-2.0".to_owned(), "LGPL-2.1-or-later".to_owned()];
    let all: BTreeSet<String> = own.into_iter().chain(linked()?.into_iter().map(|linked| linked.licence)).collect();
    let parts = all.into_iter().map(|part| if part.contains(' ') { format!("({part})") } else { part });
    Ok(parts.collect::<Vec<_>>().join(" AND "))
}

/// The crates that are inside the executable, without our own.
///
/// # Errors
/// When cargo fails, or a crate has no licence.
pub fn linked() -> Result<BTreeSet<Linked>> {
    let mut all = BTreeSet::new();
    for what in LINKED {
        let mut tree = process::cargo("tree");
        tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}|{l}"]).args(what);
        for line in process::output(&mut tree)?.lines().filter(|line| !line.contains(" (/")) {
            all.insert(read_linked(line).with_context(|| format!("failed to read the licence of {line}"))?);
        }
    }
    ensure!(!all.is_empty(), "failed to find what is linked");
    Ok(all)
}

/// A line such as `libc v0.2.1|MIT OR Apache-2.0 (*)`.
fn read_linked(line: &str) -> Option<Linked> {
    let (package, licence) = line.trim_end_matches(" (*)").split_once('|')?;
    let mut words = package.split_whitespace();
    let (name, version) = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
    // Before SPDX a slash was an `or`.
    let licence = licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ");
    (!licence.is_empty()).then_some(Linked { name, version, licence })
}

/// What cargo says of all crates; without a platform it would fetch those of others.
fn metadata() -> Result<Metadata> {
    let mut metadata = process::cargo("metadata");
    metadata.args(["--format-version", "1", "--filter-platform", TARGET, "--filter-platform", PROGRAMS_TARGET]);
    serde_json::from_str(&process::output(&mut metadata)?).context("failed to read what cargo says of the crates")
}

fn text(linked: &BTreeSet<Linked>) -> Result<String> {
    let metadata = metadata()?;
    // By their words: the same text is there once, however it is laid out.
    let mut texts: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut list = String::new();
    for Linked { name, version, licence } in linked {
        writeln!(list, "{name} {version}: {licence}")?;
        let package = metadata.packages.iter().find(|package| package.name == *name && package.version == *version);
        let package = package.with_context(|| format!("failed to find {name} {version}"))?;
        for (file, notice) in notices_of(package, &metadata)? {
            let words = notice.split_whitespace().collect::<Vec<_>>().join(" ");
            let (_, of) = texts.entry(words).or_insert_with(|| (notice, Vec::new()));
            of.push(format!("{name} {version} ({file})"));
        }
    }
    let read = |path| fs::read_to_string(path).with_context(|| format!("failed to read {path}"));
    let mut text = format!(
        "What is inside the executable of prefault beside prefault itself, and the notices that go with it.\n\n\
         Crates, by name, version and licence:\n\n{list}\n\
         Rust's standard library: MIT OR Apache-2.0; {STANDARD_LIBRARY} has the notices of it and of what it has inside.\n\
         The GNU C library: LGPL-2.1-or-later; its notices and that licence are at the end. The sources of prefault, and\n\
         `cargo xtask dist`, are what linking it with another version of that library takes.\n"
    );
    for (notice, of) in texts.into_values() {
        write!(text, "\n{RULE}\n{}\n{RULE}\n\n{notice}", of.join("\n"))?;
    }
    for path in [C_LIBRARY, C_LIBRARY_LICENCE] {
        write!(text, "\n{RULE}\nThe GNU C library ({path})\n{RULE}\n\n{}", tidied(&read(path)?))?;
    }
    Ok(text)
}

/// Every notice in a crate's folder, by its path there. For a crate without any those of another one of the same repository stand
/// in, or what we keep for it.
fn notices_of(package: &Package, metadata: &Metadata) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    find_notices(package.folder(), package.folder(), &mut found)?;
    found.sort();
    if !found.is_empty() {
        return Ok(found);
    }
    let is_sibling = |other: &&Package| other.repository.is_some() && other.repository == package.repository;
    for sibling in metadata.packages.iter().filter(is_sibling) {
        find_notices(sibling.folder(), sibling.folder(), &mut found)?;
        if !found.is_empty() {
            found.sort();
            let of = |file| format!("{file} of {} {}, which has the same repository", sibling.name, sibling.version);
            return Ok(found.into_iter().map(|(file, text)| (of(file), text)).collect());
        }
    }
    let path = paths::workspace().join(MISSING).join(format!("{}.txt", package.name));
    let text = fs::read_to_string(&path).with_context(|| {
        let folder = package.folder().display();
        format!("failed to find a licence in {folder}: put the one of its repository at {}", path.display())
    })?;
    Ok(vec![("of its repository".to_owned(), tidied(&text))])
}

fn find_notices(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) -> Result<()> {
    let context = || format!("failed to read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type().with_context(context)?.is_dir() {
            find_notices(root, &path, found)?;
        } else if NAMES.iter().any(|start| name.starts_with(start)) && !name.ends_with(".RS") {
            let text = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            let below = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            found.push((below, tidied(&String::from_utf8_lossy(&text))));
        }
    }
    Ok(())
}

/// Without spaces that cannot be seen, and with one end.
fn tidied(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n").trim_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_are_read() {
        let linked = |name: &str, version: &str, licence: &str| {
            Some(Linked { name: name.to_owned(), version: version.to_owned(), licence: licence.to_owned() })
        };
        assert_eq!(read_linked("a-b v1.2.3|ISC"), linked("a-b", "1.2.3", "ISC"));
        assert_eq!(read_linked("a v1.0.0|MIT/Apache-2.0 (*)"), linked("a", "1.0.0", "MIT OR Apache-2.0"));
        assert_eq!(read_linked("a v1.0.0|"), None);
    }

    #[test]
    fn texts_for_crates_without_any_are_needed() {
        let metadata = metadata().expect("cargo runs");
        for entry in fs::read_dir(paths::workspace().join(MISSING)).expect("there is one").flatten() {
            let path = entry.path();
            let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
            let package = metadata.packages.iter().find(|package| package.name == name).expect("it is a crate of ours");
            let found = notices_of(package, &metadata).expect("the text is there");
            assert_eq!(found[0].0, "of its repository", "{name} has notices of its own now");
        }
    }
}
