//! What is shipped, on this machine: the packages have what they are to have, the RPM is installed and erased in a folder, the
//! container image is built and started, what Kubernetes is to run is rendered. Guests install the Debian package and run what
//! is in the image, also as it was rendered.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use prefault_lab::{apt, paths, process, report::Report, vm};
use serde_json::Value;

use crate::{dist, package, setup};

const RPM: &str = "host RPM is installed and erased";
const IMAGE: &str = "host container image";
const CONTAINER_FILE: &str = "packaging/container/Containerfile";
/// What is in the image, and how it is started, for guests.
const IMAGE_FILES: &str = "image.tar";
const IMAGE_COMMAND: &str = "image.command";
/// The whole image, as `podman load` takes it, and its name.
const IMAGE_ARCHIVE: &str = "image.archive";
const IMAGE_NAME: &str = concat!("localhost/prefault:", env!("CARGO_PKG_VERSION"));
/// Of trixie is the oldest one that knows components; it runs on bookworm too.
const KUBECTL: &str = "kubectl/trixie";
/// Folders of packaging/kubernetes, and the capabilities that are to be added.
const KUSTOMIZATIONS: [(&str, &[&str]); 3] = [
    (BASE, &["BPF", "PERFMON", "SYSLOG", "SETGID", "SETUID"]),
    ("overlays/all", &["BPF", "PERFMON", "SYSLOG", "SETGID", "SETUID", "SYS_ADMIN"]),
    ("overlays/old-kernels", &["BPF", "PERFMON", "SYSLOG", "SETGID", "SETUID", "SYS_ADMIN", "SYS_RESOURCE"]),
];
const BASE: &str = "base";
/// What guests have of it.
const BASE_RENDERING: &str = "kubernetes-base.yaml";

/// What users of the packages and the image may do with what is in them.
const LICENCES: [&str; 5] =
    ["LICENSE-MIT", "LICENSE-APACHE", "LICENSE-GPL-2.0", "THIRD-PARTY-NOTICES", "RUST-LIBRARY-COPYRIGHT.html"];

/// Everything that is wanted.
pub fn run(report: &mut Report) {
    check(report, "host Debian package and RPM", packages);
    check(report, "host executable that pushes", dist::with_otlp);
    check(report, "host container image as a DaemonSet", daemon_sets);
    let is_root = process::output(Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0");
    for (name, case) in [(RPM, rpm as fn() -> Result<()>), (IMAGE, image)] {
        match is_root {
            true => check(report, name, case),
            false if report.wants(name) => report.skip(name, "only root may change the root folder"),
            false => {}
        }
    }
}

fn check(report: &mut Report, name: &str, check: fn() -> Result<()>) {
    if report.wants(name) {
        report.judge(name, check());
    }
}

/// Both packages are made and have what they are to have.
fn packages() -> Result<()> {
    let packages = package::for_guests()?;
    let deb = process::output(Command::new("dpkg-deb").arg("--contents").arg(&packages.deb))?;
    let rpm = process::output(Command::new("rpm").args(["-qlp"]).arg(&packages.rpm))?;
    for file in ["/usr/bin/prefault", "/prefault.service", "/prefault-export.1.gz", "/etc/default/prefault"] {
        ensure!(deb.contains(file) && rpm.contains(file), "{file} is missing in\n{deb}\n{rpm}");
    }
    let of_rpm = |arguments: &[&str]| process::output(Command::new("rpm").args(arguments).arg(&packages.rpm));
    let licences = of_rpm(&["-qLp"])?;
    for name in LICENCES {
        ensure!(deb.contains(&format!("/usr/share/doc/prefault/{name}\n")), "{name} is missing in\n{deb}");
        ensure!(licences.contains(&format!("/usr/share/licenses/prefault/{name}\n")), "{name} is not in {licences}");
    }
    let of_all = of_rpm(&["-qp", "--queryformat", "%{LICENSE}"])?;
    for licence in ["(MIT OR Apache-2.0)", " AND ISC", " AND LGPL-2.1-or-later"] {
        ensure!(of_all.contains(licence), "the RPM is not under {licence}: {of_all}");
    }
    Ok(())
}

/// The RPM in a root folder with nothing but a shell for its scripts.
fn rpm() -> Result<()> {
    let packages = package::for_guests()?;
    let root = paths::target("tests").join(format!("rpm.{}", std::process::id()));
    paths::create_dir(&root.join("bin"))?;
    let shell = vm::root::prepare()?.join("usr/bin/busybox");
    fs::copy(&shell, root.join("bin/sh")).with_context(|| format!("failed to copy {}", shell.display()))?;
    let rpm = |arguments: &[&str]| process::output(Command::new("rpm").arg("--root").arg(&root).args(arguments));
    rpm(&["--initdb"])?;
    let package = packages.rpm.display().to_string();
    // A script that fails at the end is only a warning.
    let said = process::capture(Command::new("rpm").arg("--root").arg(&root).args(["-i", "--nodeps", &package]))?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(!said.contains("failed"), "installing: {said}");
    // Sizes, digests, modes and owners of all files.
    rpm(&["-V", "--nodeps", "prefault"])?;
    let listed = rpm(&["-ql", "prefault"])?;
    for file in listed.lines() {
        ensure!(root.join(file.trim_start_matches('/')).exists(), "{file} is not there");
    }
    let version = process::output(Command::new(root.join("usr/bin/prefault")).arg("--version"))?;
    ensure!(version.trim() == concat!("prefault ", env!("CARGO_PKG_VERSION")), "the version is {version}");
    rpm(&["-e", "prefault"])?;
    let left: Vec<&str> = listed.lines().filter(|file| root.join(file.trim_start_matches('/')).exists()).collect();
    ensure!(left.is_empty() && listed.lines().count() > 20, "left of {listed}: {}", left.join(", "));
    paths::remove_dir(&root)
}

/// The image by buildah, which needs no network for what is built from scratch.
fn image() -> Result<()> {
    setup::ensure_container()?;
    dist::run()?;
    let directory = paths::target("tests").join(format!("image.{}", std::process::id()));
    paths::create_dir(&directory)?;
    let result = built_image(&directory);
    let _unused = buildah(&directory, &["rm", "--all"]);
    paths::remove_dir(&directory)?;
    result
}

fn buildah(directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(directory.join("storage")).arg("--runroot").arg(directory.join("run"));
    process::output(command.args(["--storage-driver", "vfs"]).args(arguments)).map(|said| said.trim().to_owned())
}

fn built_image(directory: &Path) -> Result<()> {
    let file = paths::workspace().join(CONTAINER_FILE).display().to_string();
    let context = paths::dist().display().to_string();
    buildah(
        directory,
        &["build", "--isolation", "chroot", "--file", &file, "--tag", "prefault", "--tag", IMAGE_NAME, &context],
    )?;
    let described = buildah(directory, &["inspect", "--type", "image", "localhost/prefault"])?;
    let described: Value = serde_json::from_str(&described).context("failed to read what buildah says")?;
    let config = described.pointer("/OCIv1/config").context("the image has no configuration")?;
    ensure!(config["ExposedPorts"].get("29186/tcp").is_some(), "{config}");
    let words = ["Entrypoint", "Cmd"].iter().filter_map(|key| config[*key].as_array()).flatten();
    let command: Vec<&str> = words.filter_map(Value::as_str).collect();
    let container = buildah(directory, &["from", "localhost/prefault"])?;
    let said = buildah(directory, &["run", "--isolation", "chroot", &container, "--", "/prefault", "--version"])?;
    ensure!(said == concat!("prefault ", env!("CARGO_PKG_VERSION")), "the image says {said}");
    let container = buildah(directory, &["from", "localhost/prefault"])?;
    let mounted = buildah(directory, &["mount", &container])?;
    let files: Vec<String> = fs::read_dir(&mounted)
        .with_context(|| format!("failed to read {mounted}"))?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    let files = BTreeSet::from_iter(files);
    ensure!(files == BTreeSet::from(["licenses", "prefault"].map(str::to_owned)), "the image has {files:?}");
    for name in LICENCES {
        ensure!(Path::new(&mounted).join("licenses").join(name).exists(), "the image does not have {name}");
    }
    let archive = paths::dist().join(IMAGE_FILES);
    process::output(Command::new("tar").args(["--directory", &mounted, "--create", "--file"]).arg(archive).arg("."))?;
    paths::write(&paths::dist().join(IMAGE_COMMAND), command.join(" "))?;
    let archive = paths::dist().join(IMAGE_ARCHIVE);
    // It is not written over.
    if archive.exists() {
        fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))?;
    }
    buildah(directory, &["push", IMAGE_NAME, &format!("docker-archive:{}:{IMAGE_NAME}", archive.display())]).map(drop)
}

/// Kustomize makes of the manifests what is to be applied, with the image of this version.
fn daemon_sets() -> Result<()> {
    let kubectl = apt::program(KUBECTL, "kubectl")?;
    for (folder, capabilities) in KUSTOMIZATIONS {
        let manifests = paths::workspace().join("packaging/kubernetes").join(folder);
        let text = process::output(Command::new(&kubectl).arg("kustomize").arg(manifests))?;
        let added: String = capabilities.iter().map(|name| format!("            - {name}\n")).collect();
        for part in [
            concat!("        image: prefault:", env!("CARGO_PKG_VERSION"), "\n"),
            &format!("          capabilities:\n            add:\n{added}            drop:\n            - ALL\n"),
        ] {
            ensure!(text.contains(part), "{folder} does not have\n{part}but\n{text}");
        }
        if folder == BASE {
            paths::write(&paths::dist().join(BASE_RENDERING), text)?;
        }
    }
    Ok(())
}
