//! Stock Debian kernels: which packages a release is, and its files below `target/vm/kernels`. It is the release that `pins` names
//! for the series, or, where the archive no longer has that, the newest.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    thread,
};

use anyhow::{Context as _, Error, Result, bail, ensure};

use super::pins;
use crate::{
    apt::{self, Apt},
    paths, process,
};

const IMAGE: &str = "linux-image-";
const ARCHITECTURE: &str = "-amd64";
/// The image, the modules, and the list of what is built in.
const PARTS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];
/// Files one decompressor is given, so that command lines stay short.
const FILES_PER_PROGRAM: usize = 256;

/// A kernel series and flavour as typed: `6.12`, `6.1-rt`, `6.12-cloud`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    version: String,
    flavour: Option<String>,
}

impl FromStr for Series {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (version, flavour) =
            text.split_once('-').map_or((text, None), |(version, flavour)| (version, Some(flavour)));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !version.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
            bail!("failed to read kernel series {text:?}: expected for instance 6.12, 6.1-rt or 6.12-cloud");
        }
        if flavour.is_some_and(|flavour| flavour.is_empty() || !flavour.bytes().all(|byte| byte.is_ascii_lowercase())) {
            bail!("failed to read kernel flavour of {text:?}: expected for instance rt or cloud");
        }
        Ok(Self { version: version.to_owned(), flavour: flavour.map(str::to_owned) })
    }
}

impl fmt::Display for Series {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.version)?;
        self.flavour.iter().try_for_each(|flavour| write!(formatter, "-{flavour}"))
    }
}

/// A kernel that the archive or the laboratory does not support, as opposed to one that does not work. Callers find it in an error with
/// `downcast_ref`.
#[derive(Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No package is of this series.
    Series(String),
    /// The kernel's image is there, but not everything that belongs to it.
    Parts(String),
    /// The kernel cannot see directories of the host, as those built for clouds cannot.
    NoSharing(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series(series) => write!(formatter, "failed to find kernel {series}: the archive has no such series"),
            Self::Parts(release) => {
                write!(formatter, "failed to find kernel {release}: the archive does not have all of its packages")
            }
            Self::NoSharing(release) => {
                write!(formatter, "failed to use kernel {release}: it is built without 9p over virtio")
            }
        }
    }
}

impl std::error::Error for Unavailable {}

/// An unpacked kernel.
#[derive(Debug)]
pub struct Kernel {
    /// What `uname -r` prints.
    pub release: String,
    /// The unpacked files, laid out as in the root directory of a system.
    pub tree: PathBuf,
    /// The image to boot.
    pub image: PathBuf,
    /// The directory of `modules.dep`; the modules are not compressed.
    pub modules: PathBuf,
}

impl Kernel {
    fn at(tree: PathBuf, release: &str) -> Result<Self> {
        let modules = tree.join("usr/lib/modules").join(release);
        let images = [tree.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
        let image = images.into_iter().find(|image| image.exists());
        let image = image.with_context(|| format!("failed to find the image of kernel {release}"))?;
        for list in ["modules.dep", "modules.builtin"] {
            ensure!(modules.join(list).exists(), "failed to find {list} of kernel {release}");
        }
        Ok(Self { release: release.to_owned(), tree, image, modules })
    }

    fn that_shares(self) -> Result<Self> {
        for list in ["modules.dep", "modules.builtin"] {
            let path = self.modules.join(list);
            let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            if text.contains("/9pnet_virtio.ko") {
                return Ok(self);
            }
        }
        Err(Unavailable::NoSharing(self.release).into())
    }
}

/// Returns the kernel of a series, fetching and unpacking it if it is not there.
///
/// # Errors
/// [`Unavailable`] when the archive does not have it; anything else when it cannot be fetched or unpacked.
pub fn prepare(series: &Series) -> Result<Kernel> {
    let directory = paths::target("vm/kernels");
    let _lock = paths::lock(&directory)?;
    let pin = pins::of(series)?.unwrap_or_default();
    if !pin.is_empty() && directory.join(&pin).exists() {
        return Kernel::at(directory.join(&pin), &pin)?.that_shares();
    }
    // What stands in for which pin, so that the archive is not asked each time.
    let marker = directory.join(format!("{series}.instead"));
    let instead = fs::read_to_string(&marker).unwrap_or_default();
    let release = match instead.split_once(' ') {
        Some((release, of)) if of == pin && directory.join(release).exists() => release.to_owned(),
        _ => fetch(series, &pin, &directory)?,
    };
    if release != pin {
        paths::write(&marker, format!("{release} {pin}"))?;
        if !pin.is_empty() {
            pins::say_absent(series, &pin, &release);
        }
    }
    Kernel::at(directory.join(&release), &release)?.that_shares()
}

/// Fetches and unpacks the pinned release, or the newest one if the archive does not have that, and returns which it was.
fn fetch(series: &Series, pin: &str, directory: &Path) -> Result<String> {
    let apt = Apt::open(&apt::RELEASES)?;
    let choice = choose(&apt.names("linux-")?, series, pin);
    let choice = match choice {
        Ok(choice) if pin.is_empty() || choice.release == pin => choice,
        _ => {
            apt.refresh(apt::HOUR)?;
            choose(&apt.names("linux-")?, series, pin)?
        }
    };
    let tree = directory.join(&choice.release);
    if !tree.exists() {
        eprintln!("vm: fetching and unpacking {}", choice.packages.join(", "));
        unpack(&apt.download(&choice.packages)?, &choice.release, &tree)?;
    }
    Ok(choice.release)
}

/// The newest release of a series that the archive has.
///
/// # Errors
/// When it has none.
pub fn newest(names: &[String], series: &Series) -> Result<String, Unavailable> {
    choose(names, series, "").map(|choice| choice.release)
}

/// Whether a release is of that series and flavour.
#[must_use]
pub fn is_of(release: &str, series: &Series) -> bool {
    version_of(release, series).is_some()
}

#[derive(Debug, PartialEq, Eq)]
struct Choice {
    release: String,
    packages: Vec<String>,
}

/// Chooses the pinned kernel of a series, else its newest, from the names of all packages. Before 6.19 one package has image and
/// modules; since then the package of that name is empty and its parts have them.
fn choose(names: &[String], series: &Series, pin: &str) -> Result<Choice, Unavailable> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let mut releases: Vec<(bool, Vec<u32>, &str)> = names
        .iter()
        .filter_map(|name| {
            let release = name.strip_prefix(IMAGE)?;
            Some((release == pin, version_of(release, series)?, release))
        })
        .collect();
    releases.sort();
    let mut unavailable = Unavailable::Series(series.to_string());
    for (_, _, release) in releases.into_iter().rev() {
        let parts = PARTS.map(|part| format!("{part}{release}"));
        let packages = if !has(&parts[0]) {
            vec![format!("{IMAGE}{release}")]
        } else if parts.iter().all(|part| has(part)) {
            parts.into()
        } else {
            unavailable = Unavailable::Parts(release.to_owned());
            continue;
        };
        return Ok(Choice { release: release.to_owned(), packages });
    }
    Err(unavailable)
}

/// The numbers of a release of that series and flavour, for comparing; `None` for any other release.
fn version_of(release: &str, series: &Series) -> Option<Vec<u32>> {
    let mut version = release.strip_suffix(ARCHITECTURE)?;
    if let Some(flavour) = &series.flavour {
        version = version.strip_suffix(flavour.as_str())?.strip_suffix('-')?;
    }
    let rest = version.strip_prefix(series.version.as_str())?.strip_prefix('.')?;
    // What follows is a build of Debian, or of a flavour that was not asked for.
    let (rest, build) = rest.split_once("+deb").or_else(|| rest.split_once("+bpo")).unwrap_or((rest, ""));
    if !build.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    rest.split(['.', '-']).map(|number| number.parse().ok()).collect()
}

fn unpack(packages: &[PathBuf], release: &str, tree: &Path) -> Result<()> {
    let partial = tree.with_file_name(format!("{release}.partial"));
    paths::remove_dir(&partial)?;
    paths::create_dir(&partial.join("usr/lib"))?;
    for package in packages {
        apt::unpack(package, &partial)?;
    }
    // Up to 6.1 the modules are in /lib, a symbolic link in the guest's root; both trees are laid over each other there.
    let old = partial.join("lib");
    if old.exists() {
        fs::rename(old.join("modules"), partial.join("usr/lib/modules")).context("failed to move the modules")?;
        paths::remove_dir(&old)?;
    }
    std::os::unix::fs::symlink("usr/lib", &old).with_context(|| format!("failed to create {}", old.display()))?;
    decompress(&partial.join("usr/lib/modules"))?;
    let mut depmod = Command::new("/usr/sbin/depmod");
    process::output(depmod.arg("--basedir").arg(&partial).arg(release)).context("failed to index the modules")?;
    Kernel::at(partial.clone(), release)?;
    fs::rename(&partial, tree).with_context(|| format!("failed to create {}", tree.display()))
}

/// Decompresses the modules here, once: an emulated processor needs seconds for it at each `modprobe`.
fn decompress(modules: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(modules, &mut files)?;
    let with_suffix = |suffix: &str| {
        let matching = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == suffix));
        matching.cloned().collect::<Vec<PathBuf>>()
    };
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    for (suffix, program) in [("xz", ["xz", "--decompress"]), ("zst", ["zstd", "--decompress"])] {
        let compressed = with_suffix(suffix);
        let share = compressed.len().div_ceil(n_threads).max(1);
        thread::scope(|scope| {
            let threads: Vec<_> =
                compressed.chunks(share).map(|chunk| scope.spawn(|| run_on(program, chunk))).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
    }
    Ok(())
}

fn run_on(program: [&str; 2], files: &[PathBuf]) -> Result<()> {
    for chunk in files.chunks(FILES_PER_PROGRAM) {
        let mut command = Command::new(program[0]);
        command.args([program[1], "--quiet"]).args(chunk);
        process::output(&mut command).context("failed to decompress kernel modules")?;
    }
    Ok(())
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("failed to read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_type().with_context(context)?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 24] = [
        "linux-image-5.10.0-30-amd64",
        "linux-image-5.10.0-32-amd64",
        "linux-image-5.10.0-9-amd64",
        "linux-image-6.1.0-50-amd64",
        "linux-image-6.1.0-50-amd64-dbg",
        "linux-image-6.1.0-50-amd64-unsigned",
        "linux-image-6.1.0-50-rt-amd64",
        "linux-image-6.12.94+deb13-amd64",
        "linux-image-6.12.107+deb13-amd64",
        "linux-image-6.12.107+deb13-amd64-unsigned",
        "linux-image-6.12.107+deb13-cloud-amd64",
        "linux-image-6.12.107+deb13-rt-amd64",
        "linux-image-6.19.14+deb13-amd64",
        "linux-binary-6.19.14+deb13-amd64",
        "linux-image-7.2.11+deb13-amd64",
        "linux-binary-7.2.11+deb13-amd64",
        "linux-modules-7.2.11+deb13-amd64",
        "linux-base-7.2.11+deb13-amd64",
        "linux-image-7.2.12+deb13-amd64",
        "linux-binary-7.2.12+deb13-amd64",
        "linux-base-7.2.12+deb13-amd64",
        "linux-image-amd64",
        "linux-image-cloud-amd64",
        "linux-image-rt-amd64",
    ];

    fn choice(series: &str) -> Result<Choice, Unavailable> {
        let series = series.parse().expect("the series is well formed");
        choose(&NAMES.map(str::to_owned), &series, "")
    }

    #[test]
    fn pinned_release_is_chosen_while_the_archive_has_it() {
        let series = "6.12".parse().expect("it is well formed");
        for (pin, release) in [
            ("6.12.94+deb13-amd64", "6.12.94+deb13-amd64"),
            ("6.12.90+deb13-amd64", "6.12.107+deb13-amd64"),
            // Of another flavour.
            ("6.12.107+deb13-rt-amd64", "6.12.107+deb13-amd64"),
        ] {
            let chosen = choose(&NAMES.map(str::to_owned), &series, pin).expect("there is one");
            assert_eq!(chosen.release, release, "{pin}");
        }
    }

    #[test]
    fn newest_version_of_the_series_and_flavour_is_chosen() {
        let table = [
            ("5.10", "5.10.0-32-amd64", vec!["linux-image-5.10.0-32-amd64"]),
            ("6.1", "6.1.0-50-amd64", vec!["linux-image-6.1.0-50-amd64"]),
            ("6.1-rt", "6.1.0-50-rt-amd64", vec!["linux-image-6.1.0-50-rt-amd64"]),
            ("6.12", "6.12.107+deb13-amd64", vec!["linux-image-6.12.107+deb13-amd64"]),
            ("6.12-cloud", "6.12.107+deb13-cloud-amd64", vec!["linux-image-6.12.107+deb13-cloud-amd64"]),
        ];
        for (series, release, packages) in table {
            let chosen = choice(series).expect("there is one");
            assert_eq!(
                (chosen.release.as_str(), chosen.packages),
                (release, packages.into_iter().map(str::to_owned).collect())
            );
        }
    }

    #[test]
    fn split_kernel_needs_all_of_its_packages() {
        let chosen = choice("7.2").expect("7.2.11 is complete");
        assert_eq!(chosen.release, "7.2.11+deb13-amd64");
        assert_eq!(chosen.packages, PARTS.map(|part| format!("{part}7.2.11+deb13-amd64")));
        assert_eq!(choice("6.19"), Err(Unavailable::Parts("6.19.14+deb13-amd64".to_owned())));
    }

    #[test]
    fn absent_series_is_told_from_a_failure() {
        assert_eq!(choice("6.11"), Err(Unavailable::Series("6.11".to_owned())));
        assert_eq!(choice("5.10-cloud"), Err(Unavailable::Series("5.10-cloud".to_owned())));
        assert_eq!(choice("6.1-cloud"), Err(Unavailable::Series("6.1-cloud".to_owned())));
    }

    #[test]
    fn series_are_read_and_printed_alike() {
        for text in ["6.1", "6.12-cloud", "5.10-rt"] {
            assert_eq!(text.parse::<Series>().expect("well formed").to_string(), text);
        }
        for text in ["6", "6.", "6.x", "", "6.12-", "6.12-a/b", "../6.12"] {
            assert!(text.parse::<Series>().is_err(), "{text}");
        }
    }
}
