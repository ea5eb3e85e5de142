//! Licences: those of all crates are allowed and come from the registry, the notices name what is in the executable, and all
//! that says what prefault's own licence is says the same.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use prefault_lab::{
    paths,
    process::{self, last_lines},
    report::Report,
};

use crate::{
    dist,
    notices::{self, Linked},
    setup,
};

const LINES_SHOWN: usize = 40;
const RULES: &str = "deny.toml";
/// A licence that one crate is under and that the rules allow.
const ALLOWED: &str = "    \"ISC\",\n";
/// What the kernel reads in the object.
const OF_OBJECT: &[u8] = b"Dual MIT/GPL\0";
const OWN: &str = "MIT OR Apache-2.0";
const OF_PROGRAMS: &str = "MIT OR Apache-2.0 OR GPL-2.0-only";
/// Where people read it, in these words.
const SAID: [(&str, &str); 2] = [
    ("README.md", "are under MIT, Apache-2.0 or GPL-2.0, at your choice"),
    ("packaging/debian/copyright", "are under MIT, Apache-2.0 or GPL-2.0-only, at your choice"),
];

/// Runs all of them that are wanted; the executable has been built.
pub fn run(report: &mut Report) {
    for (name, case) in [
        ("host licences and sources of crates", crates as fn() -> Result<()>),
        ("host notices of what is linked", linked),
        ("host one licence", one_licence),
    ] {
        if report.wants(name) {
            report.judge(name, case());
        }
    }
}

/// cargo-deny finds nothing, and finds something when a licence is not allowed.
fn crates() -> Result<()> {
    setup::ensure_cargo_deny()?;
    let rules = paths::workspace().join(RULES);
    let (said, is_allowed) = deny(&rules)?;
    ensure!(is_allowed, "{}", last_lines(&said, LINES_SHOWN, "\n"));
    let text = fs::read_to_string(&rules).with_context(|| format!("failed to read {RULES}"))?;
    ensure!(text.contains(ALLOWED), "{RULES} does not allow{ALLOWED}");
    let stricter = paths::target("tests").join(format!("deny.{}.toml", std::process::id()));
    paths::write(&stricter, text.replace(ALLOWED, ""))?;
    let result = deny(&stricter);
    fs::remove_file(&stricter).with_context(|| format!("failed to remove {}", stricter.display()))?;
    let (said, is_allowed) = result?;
    ensure!(!is_allowed && said.contains("license is not explicitly allowed"), "without a licence: {said}");
    Ok(())
}

/// What it said, and whether all is allowed. Advisories take a database that is fetched from elsewhere.
fn deny(rules: &Path) -> Result<(String, bool)> {
    let mut command = process::cargo("deny");
    command.args(["--color", "never", "--config"]).arg(rules).args(["check", "licenses", "sources", "bans"]);
    let output = process::capture(&mut command)?;
    Ok((String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success()))
}

/// The notices name each crate that cargo links, and each whose sources the executable names, as places where it could panic.
fn linked() -> Result<()> {
    let folder = paths::dist().join(dist::NOTICES);
    let text = fs::read_to_string(folder.join(notices::FILE)).context("failed to read the notices")?;
    let linked = notices::linked()?;
    for Linked { name, version, licence } in &linked {
        ensure!(text.contains(&format!("\n{name} {version}: {licence}\n")), "{name} {version} is not listed");
        ensure!(text.contains(&format!("\n{name} {version} (")), "{name} {version} has no notice");
    }
    let image = fs::read(paths::dist().join("prefault")).context("failed to read the executable")?;
    let image = String::from_utf8_lossy(&image);
    // A path may be followed by anything, as in the strings of the programs' BTF.
    let is_no_name = |character: char| !character.is_ascii_alphanumeric() && !"-_.+".contains(character);
    let folders = image.split("/registry/src/").skip(1).filter_map(|path| path.split('/').nth(1));
    let named: BTreeSet<&str> = folders.filter_map(|folder| folder.split(is_no_name).next()).collect();
    ensure!(named.len() > 20, "the executable names only {named:?}");
    let listed: BTreeSet<String> = linked.iter().map(|linked| format!("{}-{}", linked.name, linked.version)).collect();
    let missing: Vec<&str> = named.into_iter().filter(|name| !listed.contains(*name)).collect();
    ensure!(missing.is_empty(), "in the executable and not in the notices: {}", missing.join(", "));
    ensure!(text.contains("GNU Lesser General Public"), "the notices lack the licence of the C library");
    let library = fs::read_to_string(folder.join(notices::STANDARD_LIBRARY)).context("failed to read the notices")?;
    ensure!(library.contains("hashbrown"), "the notices of Rust's library lack what it has inside");
    Ok(())
}

fn one_licence() -> Result<()> {
    let metadata = process::output(process::cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("failed to read what cargo says")?;
    for package in metadata["packages"].as_array().context("cargo names no package")? {
        let expected = if package["name"] == "prefault-ebpf" { OF_PROGRAMS } else { OWN };
        ensure!(package["license"] == expected, "{} is under {}, not {expected}", package["name"], package["license"]);
    }
    let image = fs::read(paths::dist().join("prefault")).context("failed to read the executable")?;
    let n_objects = image.windows(OF_OBJECT.len()).filter(|bytes| *bytes == OF_OBJECT).count();
    ensure!(n_objects == 2, "{n_objects} objects say that they are under MIT and the GPL, expected 2");
    for (file, words) in SAID {
        let text =
            fs::read_to_string(paths::workspace().join(file)).with_context(|| format!("failed to read {file}"))?;
        ensure!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{file} does not say: {words}");
    }
    Ok(())
}
