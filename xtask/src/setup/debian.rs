//! Debian packages of the machine itself. These are the only things the task runner installs outside `target` and the Rust
//! toolchain.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use prefault_lab::process;

use super::{announce, locks};

/// A package and what needs it.
pub struct Need {
    name: &'static str,
    why: &'static str,
}

const fn need(name: &'static str, why: &'static str) -> Need {
    Need { name, why }
}

/// What the virtual machines need on the host; the emulator and everything inside a guest come from the private apt.
pub const LABORATORY: [Need; 4] = [
    need("curl", "asks the exporter for compressed answers"),
    need("kmod", "depmod indexes a test kernel's modules"),
    need("xz-utils", "unpacks kernel modules"),
    need("zstd", "unpacks kernel modules"),
];

/// What makes packages; dpkg-deb is there where apt is.
pub const PACKAGING: [Need; 1] = [need("rpm", "makes the RPM and shows what is in it")];

/// What builds the container image.
pub const CONTAINER: [Need; 1] = [need("buildah", "builds the container image")];

/// What shows the exporter's start page.
pub const BROWSER: [Need; 1] = [need("chromium", "shows the exporter's start page")];

/// What bpf-linker is built from; not needed where it is already installed.
pub const BPF_LINKER: [Need; 5] = [
    need("llvm-22-dev", "bpf-linker links against the LLVM version of the Rust compiler"),
    need("libpolly-22-dev", "llvm-config of LLVM 22 names it"),
    need("zlib1g-dev", "LLVM links against it"),
    need("libzstd-dev", "LLVM links against it"),
    need("libxml2-dev", "LLVM links against it"),
];

/// Whether all of the packages are installed.
///
/// # Errors
/// When there is no dpkg to ask.
pub fn has(needs: &[Need]) -> Result<bool> {
    missing(needs).map(|missing| missing.is_empty())
}

/// Installs those packages that are missing.
///
/// # Errors
/// When apt does not have a package, or this user may not install packages.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing = missing(needs)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.name).collect();
    let prefix = privilege(&names)?;
    for need in &missing {
        announce(need.name, need.why);
    }
    apt_get(&prefix, &["update"]).context("failed to fetch the lists of this machine's packages")?;
    for need in &missing {
        check_available(need)?;
    }
    apt_get(&prefix, &[&["install", "--yes", "--no-install-recommends"], &*names].concat())
        .with_context(|| format!("failed to install {}", names.join(", ")))
}

fn apt_get(prefix: &Privilege, arguments: &[&str]) -> Result<()> {
    // sudo passes no variables on.
    let mut command = prefix.command("env");
    command.args(["LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2"]).args(arguments);
    locks::run(&mut command, locks::LIMIT, |line| eprintln!("{line}"))
}

fn missing(needs: &[Need]) -> Result<Vec<&Need>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]).args(needs.iter().map(|need| need.name));
    // The exit status is a failure as soon as one of the packages is unknown, which is what is asked here.
    let output =
        process::capture(&mut query).context("failed to ask dpkg, setup works on Debian and its derivatives")?;
    let table = String::from_utf8_lossy(&output.stdout);
    let is_installed = |name: &str| table.lines().any(|line| line.strip_prefix(name) == Some(" installed"));
    Ok(needs.iter().filter(|need| !is_installed(need.name)).collect())
}

fn check_available(need: &Need) -> Result<()> {
    let versions = process::output(Command::new("apt-cache").args(["madison", need.name]))?;
    if versions.trim().is_empty() {
        bail!(
            "failed to install {}: this machine's apt sources do not have it ({}): add a source that has it, for instance \
             this release's security updates or the LLVM project's own packages, and run setup again",
            need.name,
            need.why
        );
    }
    Ok(())
}

struct Privilege(&'static [&'static str]);

impl Privilege {
    fn command(&self, program: &str) -> Command {
        match self.0 {
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            [] => Command::new(program),
        }
    }
}

fn privilege(names: &[&str]) -> Result<Privilege> {
    if process::output(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(Privilege(&[]));
    }
    if process::capture(Command::new("sudo").args(["-n", "true"])).is_ok_and(|output| output.status.success()) {
        return Ok(Privilege(&["sudo", "-n"]));
    }
    bail!(
        "failed to install {}: not root and sudo wants a password: run `sudo apt-get install {}` and then setup again",
        names.join(", "),
        names.join(" ")
    )
}
