//! A private apt: Debian packages of several releases, verified by apt itself and kept below `target/apt`. The machine's
//! own package lists and sources are neither used nor changed, so any Debian release can host it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::{paths, process};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR_VARIABLE: &str = "PREFAULT_DEBIAN_MIRROR";
/// Below `target`: what was downloaded, whatever suite it is of.
const PACKAGES: &str = "apt/debs";

/// Lists younger than this are good enough to look a package up.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Lists younger than this are good enough to say that a package does not exist.
pub const HOUR: Duration = Duration::from_secs(60 * 60);

/// Suites of Debian that are looked into together, and the folder below `target` that has their lists. Suites that only some
/// packages are for are kept apart: what is chosen by its name alone must not come from them.
#[derive(Debug)]
pub struct Archive {
    folder: &'static str,
    suites: &'static [&'static str],
}

/// 5.10, 6.1 and 6.12 come from the releases, everything newer from the backports.
pub const RELEASES: Archive =
    Archive { folder: "apt", suites: &["bullseye", "bookworm", "trixie", "trixie-backports"] };
/// One release, and for a package that is named as `package/experimental` that suite. apt takes nothing else from there, since
/// Debian marks it as not automatic, and ends with an error if the package needs more than the release has.
pub const EXPERIMENTAL: Archive = Archive { folder: "apt-experimental", suites: &["trixie", "experimental"] };

/// A package apt would install.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// Binary package name.
    pub name: String,
    /// Full Debian version.
    pub version: String,
}

/// An apt with its own sources, lists, cache and empty package status.
pub struct Apt {
    directory: PathBuf,
    suites: &'static [&'static str],
}

impl Apt {
    /// Opens the private apt, creating it on first use, with lists no older than a day if the mirror can be reached.
    ///
    /// # Errors
    /// When no mirror is known, or there are no lists and they cannot be fetched.
    pub fn open(archive: &Archive) -> Result<Self> {
        let directory = paths::target(archive.folder);
        for below in ["state", "lists/partial", "cache/archives/partial"] {
            paths::create_dir(&directory.join(below))?;
        }
        if !Path::new(KEYRING).exists() {
            bail!("failed to find {KEYRING}, which verifies Debian's packages: install debian-archive-keyring");
        }
        let apt = Self { directory, suites: archive.suites };
        paths::write(&apt.directory.join("status"), "")?;
        paths::write(&apt.directory.join("apt.conf"), configuration(&apt.directory))?;
        let sources = apt.directory.join("sources.list");
        if !sources.exists() || env::var_os(MIRROR_VARIABLE).is_some() {
            paths::write(&sources, source_list(archive.suites, &mirror()?))?;
        }
        apt.refresh(DAY)?;
        Ok(apt)
    }

    /// Fetches the package lists if they are older than `age`; old lists are used when that fails.
    ///
    /// # Errors
    /// When there are no lists at all and they cannot be fetched.
    pub fn refresh(&self, age: Duration) -> Result<()> {
        let stamp = self.directory.join("updated");
        let modified = fs::metadata(&stamp).and_then(|metadata| metadata.modified());
        let is_young = |time: SystemTime| time.elapsed().is_ok_and(|elapsed| elapsed < age);
        if modified.as_ref().is_ok_and(|time| is_young(*time)) {
            return Ok(());
        }
        let _lock = paths::lock(&self.directory)?;
        eprintln!("apt: fetching the package lists of {}", self.suites.join(", "));
        match process::output(self.command("apt-get").arg("update")) {
            Ok(_) => paths::write(&stamp, ""),
            Err(error) if modified.is_ok() => {
                eprintln!("apt: using the package lists of an earlier run: {error:#}");
                Ok(())
            }
            Err(error) => Err(error.context("failed to fetch Debian's package lists")),
        }
    }

    /// Names of the packages that begin with `prefix` and can be downloaded.
    ///
    /// # Errors
    /// When apt fails.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = process::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Every version of a package, newest first.
    ///
    /// # Errors
    /// When apt fails.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = process::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(table.lines().filter_map(|line| line.split('|').nth(1)).map(|version| version.trim().to_owned()).collect())
    }

    /// The packages and everything they depend on, as an installation on an empty system would choose them.
    ///
    /// # Errors
    /// When a package does not exist in that suite or the dependencies contradict each other.
    pub fn closure(&self, suite: &str, packages: &[&str]) -> Result<Vec<Package>> {
        let mut command = self.command("apt-get");
        command.args(["install", "--simulate", "--no-install-recommends", "--target-release", suite]).args(packages);
        Ok(installations(&process::output(&mut command)?))
    }

    /// Downloads packages, given as `name` or `name=version`, and returns the files. What an earlier run downloaded is not
    /// downloaded again.
    ///
    /// # Errors
    /// When a package does not exist or cannot be fetched or verified.
    pub fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let debs = paths::target(PACKAGES);
        let _lock = paths::lock(&debs)?;
        let listing = process::output(self.command("apt-get").args(["download", "--print-uris"]).args(packages))
            .with_context(|| format!("failed to find {}", packages.join(", ")))?;
        let files: Vec<PathBuf> = file_names(&listing).map(|name| debs.join(name)).collect();
        if files.iter().all(|file| file.exists()) {
            return Ok(files);
        }
        // An interrupted download leaves a short file under its final name, so a complete one is moved out of here.
        let partial = debs.join("partial");
        paths::create_dir(&partial)?;
        process::output(self.command("apt-get").arg("download").args(packages).current_dir(&partial))
            .with_context(|| format!("failed to download {}", packages.join(", ")))?;
        for file in &files {
            let name = file.file_name().context("failed to name a package file")?;
            fs::rename(partial.join(name), file).with_context(|| format!("failed to store {}", file.display()))?;
        }
        Ok(files)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("--config-file").arg(self.directory.join("apt.conf"));
        command.arg("--quiet=2").current_dir(&self.directory);
        command
    }
}

/// Unpacks a package's files without running anything of it.
///
/// # Errors
/// When the package cannot be read or the directory not written.
pub fn unpack(package: &Path, into: &Path) -> Result<()> {
    process::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(into))
        .with_context(|| format!("failed to unpack {}", package.display()))?;
    Ok(())
}

/// Path of a program of a package that is named `package/suite`. It is unpacked below `target` when it is first asked for, and
/// runs with this machine's libraries.
///
/// # Errors
/// When the package cannot be fetched or does not have the program.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    let (folder, _) = package.split_once('/').context("failed to read the name of a package: it has no suite")?;
    let directory = paths::target(folder);
    let _lock = paths::lock(&directory)?;
    let program = directory.join("usr/bin").join(name);
    if !program.exists() {
        let files = Apt::open(&RELEASES)?.download(&[package.to_owned()])?;
        let file = files.first().with_context(|| format!("failed to find the package {folder}"))?;
        unpack(file, &directory)?;
    }
    program.exists().then_some(program).with_context(|| format!("failed to find {name} in the package {folder}"))
}

/// An apt's configuration for a directory of its own.
pub fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    // The machine's configuration is read first, for its proxy and passwords. Its hooks would clean the machine's caches;
    // its pins and additional architectures would change the choice of packages. The user apt drops to for downloads
    // cannot enter every home directory.
    format!(
        r#"Dir::State "{directory}/state/";
Dir::State::lists "{directory}/lists/";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache/";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Sandbox::User "root";
Acquire::GzipIndexes "false";
Acquire::Retries "2";
"#
    )
}

fn source_list(suites: &[&str], mirror: &str) -> String {
    let line = |suite| format!("deb [arch=amd64 target=Packages signed-by={KEYRING}] {mirror} {suite} main\n");
    suites.iter().map(line).collect()
}

fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var(MIRROR_VARIABLE) {
        return Ok(mirror);
    }
    let format = "$(SITE) $(RELEASE) $(ORIGIN)";
    let targets =
        process::output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    choose_mirror(&targets).map(str::to_owned).with_context(|| {
        format!("failed to find a Debian mirror in this machine's apt sources: set {MIRROR_VARIABLE} to the URL of one")
    })
}

/// The main archive carries every suite; the machine's security, update and third-party sources do not.
fn choose_mirror(targets: &str) -> Option<&str> {
    const RELEASES: [&str; 10] = [
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ];
    targets.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (site, release, origin) = (fields.next()?, fields.next()?, fields.next());
        // Before the machine's first `apt-get update` the origin is not known and is printed as its own name.
        let is_debian = origin.is_none_or(|origin| origin == "Debian" || origin.starts_with("$("));
        (is_debian && RELEASES.contains(&release)).then_some(site)
    })
}

/// `Inst name (version release [arch])` lines of a simulated installation.
fn installations(simulation: &str) -> Vec<Package> {
    simulation
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
            let version = rest.split_whitespace().next()?;
            Some(Package { name: name.to_owned(), version: version.to_owned() })
        })
        .collect()
}

/// `'uri' file size hash` lines of `--print-uris`.
fn file_names(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter(|line| line.starts_with('\'')).filter_map(|line| line.split_whitespace().nth(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_the_main_archive() {
        let targets = "http://a.example/apt stable Somebody\n\
                       http://b.example/security bookworm-security Debian\n\
                       http://c.example/debian bookworm-updates Debian\n\
                       http://d.example/debian bookworm Debian\n";
        assert_eq!(choose_mirror(targets), Some("http://d.example/debian"));
    }

    #[test]
    fn mirror_is_found_before_the_first_update() {
        assert_eq!(choose_mirror("http://a.example/debian trixie $(ORIGIN)\n"), Some("http://a.example/debian"));
        assert_eq!(choose_mirror("http://a.example/ubuntu noble Ubuntu\n"), None);
    }

    #[test]
    fn simulation_lists_what_would_be_installed() {
        let simulation =
            "NOTE: only a simulation\nInst zlib1g (1:1.3-1 Debian:13/stable [amd64])\nConf zlib1g (1:1.3-1)\n";
        let zlib = Package { name: "zlib1g".to_owned(), version: "1:1.3-1".to_owned() };
        assert_eq!(installations(simulation), [zlib]);
    }

    #[test]
    fn listing_gives_file_names() {
        let listing = "'http://a.example/pool/zlib1g_1.3_amd64.deb' zlib1g_1%3a1.3_amd64.deb 88 SHA256:0\nother\n";
        assert_eq!(file_names(listing).collect::<Vec<_>>(), ["zlib1g_1%3a1.3_amd64.deb"]);
    }
}
