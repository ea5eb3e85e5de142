//! One line per case as soon as it is known, and the tally that ends the run. It does not know what a case is about.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Error, Result};

const MOST_LINES: usize = 40;
const MOST_COLUMNS: usize = 300;

/// Why a case could not be run, through no fault of the project.
#[derive(Debug)]
pub struct NotRun(pub String);

impl fmt::Display for NotRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NotRun {}

/// What has been judged so far.
#[derive(Debug)]
pub struct Report {
    print: fn(&str),
    only: Vec<String>,
    n_passed: u64,
    n_failed: u64,
    n_skipped: u64,
    failures: Vec<String>,
}

impl Report {
    /// A report on the cases whose name contains one of `only`, on all if there is none.
    #[must_use]
    pub fn new(only: Vec<String>) -> Self {
        Self { print: say, only, n_passed: 0, n_failed: 0, n_skipped: 0, failures: Vec::new() }
    }

    /// Whether a case of that name is to be run.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }

    /// A case that has been run, or, as a [`NotRun`] says, was not. One that was not asked for but shared its run with another is left out.
    pub fn judge(&mut self, name: &str, result: Result<()>) {
        if self.wants(name) {
            match result {
                Ok(()) => self.pass(name, 1),
                Err(error) => match error.downcast_ref::<NotRun>() {
                    Some(NotRun(reason)) => self.skip(name, reason),
                    None => self.fail(name, 1, &error),
                },
            }
        }
    }

    /// So many cases that passed together.
    pub fn pass(&mut self, name: &str, n_cases: u64) {
        self.n_passed += n_cases;
        (self.print)(&format!("ok       {name}"));
    }

    /// So many cases that failed together, for one reason.
    pub fn fail(&mut self, name: &str, n_cases: u64, error: &Error) {
        self.n_failed += n_cases;
        self.failures.push(name.to_owned());
        (self.print)(&format!("FAILED   {name}: {}", indented(&format!("{error:#}"))));
    }

    /// A case that could not be run through no fault of the project; it does not count as passed.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.n_skipped += 1;
        (self.print)(&format!("not run  {name}: {}", indented(reason)));
    }

    /// Prints the names of what failed and the last line.
    #[must_use]
    pub fn finish(self) -> ExitCode {
        if !self.failures.is_empty() {
            say(&format!("\nfailed:\n  {}\n", self.failures.join("\n  ")));
        }
        say(&self.tally());
        // A run in which nothing was judged has proven nothing.
        if self.n_failed == 0 && self.n_passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn tally(&self) -> String {
        let skipped = if self.n_skipped == 0 { String::new() } else { format!(", {} skipped", self.n_skipped) };
        format!("{} passed, {} failed{skipped}", self.n_passed, self.n_failed)
    }
}

/// A report is whole between any two calls, whatever became of the caller that held it.
pub fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line of the report, seen at once also through a pipe. Nobody reading it is no reason to stop testing.
pub fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Further lines of a message stand out from the next case. A message is to be read, not scrolled through: what a step left
/// stays below `target/tests`.
fn indented(text: &str) -> String {
    let mut lines: Vec<String> = text.trim_end().lines().map(shortened).collect();
    if lines.len() > MOST_LINES {
        let n_left_out = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("... and {n_left_out} lines more"));
    }
    lines.join("\n         ")
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(MOST_COLUMNS) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn tally_counts_what_was_asked_for() {
        let mut report = Report { print: |_| {}, ..Report::new(vec!["6.1 ".to_owned()]) };
        report.judge("6.1 ext4", Ok(()));
        report.judge("6.12 ext4", Err(anyhow!("not asked for")));
        assert_eq!(report.tally(), "1 passed, 0 failed");
        report.judge("6.1 xfs", Err(anyhow!("wrong")));
        report.pass("6.1 unit tests", 40);
        report.skip("6.1 btrfs", "no such module");
        assert_eq!(report.tally(), "41 passed, 1 failed, 1 skipped");
        report.judge("6.1 bcachefs", Err(NotRun("no such program".to_owned()).into()));
        assert_eq!(report.tally(), "41 passed, 1 failed, 2 skipped");
        assert_eq!(report.failures, ["6.1 xfs"]);
    }

    #[test]
    fn messages_are_indented_and_shortened() {
        assert_eq!(indented("a\nb\n"), "a\n         b");
        let long = indented(&"x\n".repeat(MOST_LINES + 2));
        assert!(long.ends_with("... and 2 lines more"), "{long}");
        assert_eq!(shortened(&"é".repeat(MOST_COLUMNS + 1)), format!("{} ...", "é".repeat(MOST_COLUMNS)));
    }
}
