//! prefault-lab/kernels.txt: the release of each series that is tested, so that a run can be repeated with the kernels of the
//! day. One command moves all of them to the newest ones of the archive.

use std::{
    fmt::Write as _,
    fs,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use super::kernels::{Series, newest};
use crate::{
    apt::{self, Apt},
    paths,
};

/// Below the workspace.
pub const FILE: &str = "prefault-lab/kernels.txt";

/// What has been said: guests of the same kernel are many.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The release that is to be taken for a series, if the file has one.
///
/// # Errors
/// When the file cannot be read.
pub fn of(series: &Series) -> Result<Option<String>> {
    let series = series.to_string();
    Ok(pins(&text()?).find(|(of, _)| *of == series).map(|(_, release)| release.to_owned()))
}

/// Says, once, that another release stands in for the one of the file.
pub fn say_absent(series: &Series, pin: &str, release: &str) {
    let line = format!(
        "vm: kernel {pin} of {FILE} is no longer in the archive: {release} is taken; `cargo xtask kernels` moves {series} to it"
    );
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&line) {
        eprintln!("{line}");
        said.push(line);
    }
}

/// Moves every series of the file to the newest release of the archive, and says what has changed.
///
/// # Errors
/// When the archive or the file cannot be read, or the file not written.
pub fn move_all() -> Result<()> {
    let apt = Apt::open(&apt::RELEASES)?;
    apt.refresh(apt::HOUR)?;
    let names = apt.names("linux-")?;
    let text = text()?;
    let moved = moved(&text, |series| Ok(newest(&names, &series.parse()?)?))?;
    for ((series, old), (_, new)) in pins(&text).zip(pins(&moved)).filter(|(old, new)| old != new) {
        println!("{series}: {old} -> {new}");
    }
    paths::write(&paths::workspace().join(FILE), moved)
}

fn text() -> Result<String> {
    fs::read_to_string(paths::workspace().join(FILE)).with_context(|| format!("failed to read {FILE}"))
}

/// Series and release of each line that is no comment.
fn pins(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '))
}

/// The text with other releases. A series that the archive no longer has keeps its own.
fn moved(text: &str, newest: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut moved = String::new();
    for line in text.lines() {
        match line.split_once(' ').filter(|_| !line.starts_with('#')) {
            Some((series, release)) => {
                let release = newest(series).unwrap_or_else(|error| {
                    eprintln!("kernels: {series} stays at {release}: {error:#}");
                    release.to_owned()
                });
                writeln!(moved, "{series} {release}")?;
            }
            None => writeln!(moved, "{line}")?,
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::{matrix::kernels::KERNELS, vm::kernels::is_of};

    #[test]
    fn every_kernel_of_the_matrix_is_pinned_to_a_release_of_its_series() {
        let text = text().expect("it is in the workspace");
        let pinned: Vec<&str> = pins(&text).map(|(series, _)| series).collect();
        assert_eq!(pinned, KERNELS.iter().map(|kernel| kernel.series).collect::<Vec<_>>());
        for (series, release) in pins(&text) {
            assert!(is_of(release, &series.parse().expect("it is well formed")), "{series} {release}");
        }
    }

    #[test]
    fn what_the_archive_has_lost_keeps_its_release() {
        let newest = |series: &str| if series == "6.1" { Ok("6.1.0-51-amd64".to_owned()) } else { bail!("it is gone") };
        let text = "# a comment\n6.1 6.1.0-50-amd64\n6.16 6.16.3+deb13-amd64\n";
        let expected = "# a comment\n6.1 6.1.0-51-amd64\n6.16 6.16.3+deb13-amd64\n";
        assert_eq!(moved(text, newest).expect("it can be formatted"), expected);
    }
}
