//! `cargo xtask package`: the static executable with units, man pages, completions and rules, as a Debian package and as an
//! RPM below target/packages. What they have in common is laid out once as a tree; the packages are made by dpkg-deb and
//! rpmbuild from the descriptions below packaging/.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use prefault_lab::{paths, process};

use crate::{dist, notices, setup};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROGRAM: u32 = 0o755;
const FILE: u32 = 0o644;

/// Files of the workspace, where each goes, and with which mode.
const FILES: [(&str, &str, u32); 25] = [
    ("packaging/systemd/prefault.service", "usr/lib/systemd/system/prefault.service", FILE),
    ("packaging/systemd/prefault.socket", "usr/lib/systemd/system/prefault.socket", FILE),
    ("packaging/debian/default", "etc/default/prefault", FILE),
    ("packaging/prometheus/prefault.rules.yml", "usr/share/prefault/prometheus/prefault.rules.yml", FILE),
    ("packaging/grafana/prefault.json", "usr/share/prefault/grafana/prefault.json", FILE),
    ("docs/runbook.md", "usr/share/doc/prefault/docs/runbook.md", FILE),
    ("README.md", "usr/share/doc/prefault/README.md", FILE),
    ("docs/format.md", "usr/share/doc/prefault/docs/format.md", FILE),
    ("docs/metrics.md", "usr/share/doc/prefault/docs/metrics.md", FILE),
    ("CHANGELOG.md", "usr/share/doc/prefault/CHANGELOG.md", FILE),
    ("packaging/debian/copyright", "usr/share/doc/prefault/copyright", FILE),
    ("target/dist/prefault", "usr/bin/prefault", PROGRAM),
    ("target/dist/licenses/LICENSE-APACHE", "usr/share/doc/prefault/LICENSE-APACHE", FILE),
    ("target/dist/licenses/LICENSE-GPL-2.0", "usr/share/doc/prefault/LICENSE-GPL-2.0", FILE),
    ("target/dist/licenses/LICENSE-MIT", "usr/share/doc/prefault/LICENSE-MIT", FILE),
    ("target/dist/licenses/RUST-LIBRARY-COPYRIGHT.html", "usr/share/doc/prefault/RUST-LIBRARY-COPYRIGHT.html", FILE),
    ("target/dist/licenses/THIRD-PARTY-NOTICES", "usr/share/doc/prefault/THIRD-PARTY-NOTICES", FILE),
    ("docs/production.md", "usr/share/doc/prefault/docs/production.md", FILE),
    ("docs/architecture.md", "usr/share/doc/prefault/docs/architecture.md", FILE),
    ("docs/how-it-works.md", "usr/share/doc/prefault/docs/how-it-works.md", FILE),
    ("docs/overhead.md", "usr/share/doc/prefault/docs/overhead.md", FILE),
    ("docs/results.md", "usr/share/doc/prefault/docs/results.md", FILE),
    ("docs/write-paths.md", "usr/share/doc/prefault/docs/write-paths.md", FILE),
    ("CONTRIBUTING.md", "usr/share/doc/prefault/CONTRIBUTING.md", FILE),
    ("SECURITY.md", "usr/share/doc/prefault/SECURITY.md", FILE),
];

/// Completions, by the name they are written under, and where each shell looks.
const COMPLETIONS: [(&str, &str); 3] = [
    ("prefault.bash", "usr/share/bash-completion/completions/prefault"),
    ("prefault.fish", "usr/share/fish/vendor_completions.d/prefault.fish"),
    ("_prefault", "usr/share/zsh/vendor-completions/_prefault"),
];

/// Scripts of the Debian package.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Both packages.
#[derive(Debug)]
pub struct Packages {
    /// The Debian package.
    pub deb: PathBuf,
    /// The RPM.
    pub rpm: PathBuf,
}

/// Builds everything and makes both packages.
///
/// # Errors
/// When something cannot be built or is missing.
pub fn run() -> Result<Packages> {
    setup::ensure_packaging()?;
    dist::run()?;
    let directory = paths::target("packages");
    let _lock = paths::lock(&directory)?;
    let (tree, documents) = (directory.join("tree"), directory.join("documents"));
    for folder in [&tree, &documents] {
        paths::remove_dir(folder)?;
        paths::create_dir(folder)?;
    }
    // From the tool's own command line.
    process::output(Command::new(paths::dist().join("documents")).arg(&documents))?;
    lay_out(&tree, &documents)?;
    Ok(Packages { deb: deb(&directory, &tree)?, rpm: rpm(&directory, &tree)? })
}

/// Makes the packages, and lets guests have the Debian one beside the programs.
///
/// # Errors
/// When they cannot be made.
pub fn for_guests() -> Result<Packages> {
    let packages = run()?;
    fs::copy(&packages.deb, paths::dist().join("prefault.deb")).context("failed to copy the Debian package")?;
    Ok(packages)
}

fn lay_out(tree: &Path, documents: &Path) -> Result<()> {
    for (from, to, mode) in FILES {
        place(&paths::workspace().join(from), &tree.join(to), mode)?;
    }
    for (from, to) in COMPLETIONS {
        place(&documents.join(from), &tree.join(to), FILE)?;
    }
    let mut n_pages = 0;
    for entry in fs::read_dir(documents).with_context(|| format!("failed to read {}", documents.display()))? {
        let page = entry?.path();
        if page.extension().is_some_and(|extension| extension == "1") {
            let name = page.file_name().context("failed to name a man page")?;
            let to = tree.join("usr/share/man/man1").join(name);
            place(&page, &to, FILE)?;
            // Without name and time, so that the same page gives the same file.
            process::output(Command::new("gzip").args(["-9", "--no-name"]).arg(&to))?;
            n_pages += 1;
        }
    }
    if n_pages == 0 {
        bail!("failed to find a man page in {}", documents.display());
    }
    Ok(())
}

fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    paths::create_dir(to.parent().context("failed to name a folder of the package")?)?;
    fs::copy(from, to).with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
        .with_context(|| format!("failed to set the mode of {}", to.display()))
}

fn deb(directory: &Path, tree: &Path) -> Result<PathBuf> {
    let described = paths::workspace().join("packaging/debian");
    let root = directory.join("deb");
    paths::remove_dir(&root)?;
    process::output(Command::new("cp").arg("-a").arg(tree).arg(&root))?;
    let control = fs::read_to_string(described.join("control.in")).context("failed to read control.in")?;
    let control = control.replace("@VERSION@", VERSION).replace("@KIB@", &kibibytes(tree)?);
    paths::create_dir(&root.join("DEBIAN"))?;
    paths::write(&root.join("DEBIAN/control"), control)?;
    place(&described.join("conffiles"), &root.join("DEBIAN/conffiles"), FILE)?;
    for script in SCRIPTS {
        place(&described.join(script), &root.join("DEBIAN").join(script), PROGRAM)?;
    }
    let package = directory.join(format!("prefault_{VERSION}_amd64.deb"));
    process::output(Command::new("dpkg-deb").args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&package))?;
    Ok(package)
}

/// What the files take, as control(5) wants it.
fn kibibytes(tree: &Path) -> Result<String> {
    let said = process::output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree))?;
    said.split_whitespace().next().map(str::to_owned).context("failed to read the size of the package")
}

fn rpm(directory: &Path, tree: &Path) -> Result<PathBuf> {
    let spec = paths::workspace().join("packaging/rpm/prefault.spec");
    let built = directory.join("rpm");
    paths::remove_dir(&built)?;
    let mut command = Command::new("rpmbuild");
    let licences = notices::expression()?;
    let defined =
        [("_topdir", &*built), ("_tree", tree), ("_version", VERSION.as_ref()), ("_licences", licences.as_ref())];
    for (name, value) in defined {
        command.arg("--define").arg(format!("{name} {}", value.display()));
    }
    process::output(command.args(["-bb", "--target", "x86_64"]).arg(spec))?;
    let name = format!("prefault-{VERSION}-1.x86_64.rpm");
    let package = directory.join(&name);
    fs::rename(built.join("RPMS/x86_64").join(&name), &package).with_context(|| format!("failed to find {name}"))?;
    Ok(package)
}
