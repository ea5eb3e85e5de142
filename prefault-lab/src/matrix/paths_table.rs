//! docs/write-paths.md: for each kernel and filesystem the path that wrote and when it prefaulted. The matrix compares each row with
//! what it has seen, or writes it.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};

use super::{filesystems, kernels::KERNELS};
use crate::{document, paths};

const FILE: &str = "docs/write-paths.md";
const SECTION: &str = "\n## ";
const HEADING: &str = "| filesystem | write path | mode | exact |\n|---|---|---|---|\n";

/// Rows of all kernels, by series and name of the filesystem.
type Rows = BTreeMap<(String, String), String>;

/// Guests are judged side by side, and there is one file.
static WRITING: Mutex<()> = Mutex::new(());

/// Compares what was seen on a filesystem of a kernel, whose counts were exact, with its row, or writes the row.
///
/// # Errors
/// When they differ.
pub fn check(series: &str, filesystem: &str, seen: &[document::Path], update: bool) -> Result<()> {
    let row = row(filesystem, seen);
    let key = (series.to_owned(), filesystem.to_owned());
    if update {
        let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let (introduction, mut rows) = read()?;
        rows.insert(key, row);
        return paths::write(&paths::workspace().join(FILE), render(&introduction, &rows));
    }
    let (_, rows) = read()?;
    let expected = rows.get(&key).with_context(|| format!("{FILE} has no row for it: {row}"))?;
    ensure!(*expected == row, "{FILE} differs:\nis       {row}\nexpected {expected}");
    Ok(())
}

/// The functions that the file names as write paths on that kernel.
///
/// # Errors
/// When it cannot be read.
pub fn functions(series: &str) -> Result<Vec<String>> {
    let (_, rows) = read()?;
    let rows = rows.into_iter().filter(|((of, _), _)| of == series);
    // Every second part is between backquotes.
    Ok(rows.flat_map(|(_, row)| row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect())
}

fn row(filesystem: &str, seen: &[document::Path]) -> String {
    let seen: Vec<&document::Path> = seen.iter().filter(|path| path.calls > 0).collect();
    let functions: Vec<String> = seen.iter().map(|path| format!("`{}`", path.function)).collect();
    // The path around another one neither prefaults nor copies.
    let modes: Vec<&str> = seen.iter().map(|path| path.mode.as_str()).filter(|mode| *mode != "not seen").collect();
    format!("| {filesystem} | {} | {} | yes |", functions.join(" in "), modes.join(", "))
}

/// What precedes the first section, and the rows.
fn read() -> Result<(String, Rows)> {
    let text = fs::read_to_string(paths::workspace().join(FILE)).with_context(|| format!("failed to read {FILE}"))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> (String, Rows) {
    let mut sections = text.split(SECTION);
    let introduction = sections.next().unwrap_or_default().to_owned();
    let mut rows = Rows::new();
    for section in sections {
        let series = section.lines().next().unwrap_or_default();
        for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
            let name = row.split('|').nth(1).unwrap_or_default().trim();
            rows.insert((series.to_owned(), name.to_owned()), row.to_owned());
        }
    }
    (introduction, rows)
}

fn render(introduction: &str, rows: &Rows) -> String {
    let mut text = introduction.to_owned();
    for kernel in &KERNELS {
        let row = |name: &str| rows.get(&(kernel.series.to_owned(), name.to_owned()));
        let rows: String =
            filesystems::all().filter_map(|filesystem| row(filesystem.name)).map(|row| format!("{row}\n")).collect();
        if !rows.is_empty() {
            text.push_str(&format!("{SECTION}{}\n\n{HEADING}{rows}", kernel.series));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_as_it_would_be_written() {
        let (introduction, rows) = read().expect("it is in the workspace");
        let text = fs::read_to_string(paths::workspace().join(FILE)).expect("it was just read");
        assert_eq!(render(&introduction, &rows), text);
    }

    #[test]
    fn paths_within_each_other_are_one_row() {
        let path = |function: &str, mode: &str, calls| document::Path {
            function: function.to_owned(),
            mode: mode.to_owned(),
            calls,
        };
        let seen = [
            path("generic_perform_write", "eager", 5),
            path("f2fs_file_write_iter", "not seen", 5),
            path("unused", "eager", 0),
        ];
        assert_eq!(row("f2fs", &seen), "| f2fs | `generic_perform_write` in `f2fs_file_write_iter` | eager | yes |");
    }
}
