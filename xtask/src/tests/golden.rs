//! Files of expected output below `xtask/golden`. `cargo xtask test --update-golden` writes them; a change of one is read and
//! committed like any other change.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::paths;

/// Compares a text with a golden file, or writes the file.
///
/// # Errors
/// Showing the first line that differs.
pub fn compare(name: &str, text: &str, update: bool) -> Result<()> {
    let directory = paths::workspace().join("xtask/golden");
    let path = directory.join(name);
    if update {
        paths::create_dir(&directory)?;
        return paths::write(&path, text);
    }
    let golden = fs::read_to_string(&path)
        .with_context(|| format!("failed to read {name}: run cargo xtask test --update-golden"))?;
    let difference = first_difference(&golden, text);
    ensure!(difference.is_none(), "{name} differs at {}", difference.unwrap_or_default());
    Ok(())
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
