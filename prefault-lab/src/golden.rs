//! Files of expected output below `prefault-lab/golden`. `cargo xtask test --update-golden` writes them; a change of one is
//! read and committed like any other change.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// Compares a text with a golden file, or writes the file.
///
/// # Errors
/// Showing the first line that differs.
pub fn compare(name: &str, text: &str, update: bool) -> Result<()> {
    if update {
        paths::create_dir(&directory())?;
        return paths::write(&directory().join(name), text);
    }
    same(name, &read(name)?, text)
}

/// The text of a golden file.
///
/// # Errors
/// When there is none.
pub fn read(name: &str) -> Result<String> {
    fs::read_to_string(directory().join(name))
        .with_context(|| format!("failed to read {name}: run cargo xtask test --update-golden"))
}

/// Demands that two texts are the same.
///
/// # Errors
/// Showing the first line that differs.
pub fn same(name: &str, golden: &str, text: &str) -> Result<()> {
    match first_difference(golden, text) {
        Some(difference) => bail!("{name} differs at {difference}"),
        None => Ok(()),
    }
}

fn directory() -> PathBuf {
    paths::workspace().join("prefault-lab/golden")
}

fn first_difference(golden: &str, text: &str) -> Option<String> {
    let (mut expected, mut is) = (golden.lines(), text.lines());
    for number in 1.. {
        match (expected.next(), is.next()) {
            (None, None) => break,
            (expected, is) if expected == is => {}
            (expected, is) => {
                let [expected, is] = [expected, is].map(|line| line.unwrap_or("<the end>"));
                return Some(format!("line {number}:\nis       {is}\nexpected {expected}"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_that_differs_is_shown() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let difference = first_difference("a\nb\n", "a\nc\n").expect("they differ");
        assert_eq!(difference, "line 2:\nis       c\nexpected b");
        assert!(first_difference("a\n", "a\nb\n").is_some_and(|difference| difference.contains("<the end>")));
    }
}
