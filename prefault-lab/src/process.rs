//! Running other programs, with errors that name the program and what it said. Guests are not started from here.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::paths;

const POLL_INTERVAL: Duration = Duration::from_millis(10);
const LINES_SHOWN: usize = 5;

/// The cargo that runs this, for a subcommand in the workspace. It takes the lock file as it is, so that what is built, linted
/// and tested is of the same versions everywhere. Nor does it get what cargo tells this program about its own package: ring's
/// build script looks at that, and everything behind it was built anew whenever one went from `cargo xtask` to cargo and back.
#[must_use]
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(paths::workspace());
    let of_package = |name: &OsString| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| starts_with(name, start));
    for name in env::vars_os().map(|(name, _)| name).filter(of_package) {
        command.env_remove(name);
    }
    // Formatting looks at no dependency.
    if subcommand != "fmt" {
        command.arg("--locked");
    }
    command
}

fn starts_with(name: &OsStr, start: &str) -> bool {
    name.as_encoded_bytes().starts_with(start.as_bytes())
}

/// The Rust compiler that builds with that cargo.
#[must_use]
pub fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Runs a program and returns its standard output; its standard error is shown only in the error.
///
/// # Errors
/// When it cannot be started, fails, or does not print UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let output = capture(command)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("failed to run {}: {}: {}", name(command), output.status, last_lines(&said, LINES_SHOWN, "; "));
    }
    String::from_utf8(output.stdout).with_context(|| format!("failed to read the output of {}", name(command)))
}

/// Runs a program whatever its exit status, and returns status and output.
///
/// # Errors
/// When it cannot be started.
pub fn capture(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("failed to run {}", name(command)))
}

/// Runs a program that reports progress. What it prints goes to standard error, because standard output belongs to the
/// command in the guest.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run_visibly(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .with_context(|| format!("failed to run {}", name(command)))?;
    if !status.success() {
        bail!("failed to run {}: {status}", name(command));
    }
    Ok(())
}

/// Whether a program can be started and succeeds; it is killed when it takes longer than `limit`.
#[must_use]
pub fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    matches!(wait_until(&mut child, Instant::now() + limit), Ok(Some(status)) if status.success())
}

/// Waits for a child; at the deadline it is killed and `None` is returned.
///
/// # Errors
/// When the child cannot be waited for or killed.
pub fn wait_until(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("failed to wait for a child process")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().context("failed to kill a child process")?;
            child.wait().context("failed to wait for a child process")?;
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The last lines of a text that are not empty, joined.
#[must_use]
pub fn last_lines(text: &str, n_lines: usize, separator: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(n_lines)..].join(separator)
}

fn name(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.get_args().find(|argument| !argument.to_string_lossy().starts_with(['-', '/'])) {
        Some(verb) => format!("{program} {}", verb.to_string_lossy()),
        None => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_does_not_hear_of_the_package_that_runs_it() {
        // Cargo has told this test.
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        let command = cargo("build");
        let removed: Vec<&OsStr> =
            command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.contains(&OsStr::new("CARGO_MANIFEST_DIR")) && removed.contains(&OsStr::new("CARGO_PKG_NAME")));
        assert!(command.get_args().eq(["build", "--locked"]));
    }

    #[test]
    fn last_lines_skip_empty_ones() {
        assert_eq!(last_lines("one\n\ntwo \nthree\n\n", 2, "; "), "two; three");
        assert_eq!(last_lines("one\n", 2, "; "), "one");
        assert_eq!(last_lines("", 2, "; "), "");
    }

    #[test]
    fn slow_program_is_killed_at_the_limit() {
        let start = Instant::now();
        assert!(!succeeds_within(Command::new("sleep").arg("60"), Duration::from_millis(50)));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn error_names_the_program_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).expect_err("it fails");
        assert!(error.to_string().ends_with("exit status: 3: no such luck"), "{error}");
    }
}
