//! Waiting for another apt. Only one program at a time may change a machine's packages or its lists of them, and those that do
//! so unasked, as unattended-upgrades, do it soon after a machine has started. apt's own `DPkg::Lock::Timeout` says nothing
//! when it is quiet, and is not for the lock of the lists.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use prefault_lab::process::{self, last_lines};

/// How long another apt is waited for: an upgrade of a whole release takes minutes.
pub const LIMIT: Duration = Duration::from_secs(600);
const INTERVAL: Duration = Duration::from_secs(1);
/// What apt says of each of its locks, in the language of the locale C.
const HELD: &str = "Could not get lock";

/// Runs apt-get in the locale C until no other program has the locks that it needs, for at most `limit`. `say` is told each
/// program that is waited for, once.
///
/// # Errors
/// When it cannot be started, fails for another reason, or the limit is over.
pub fn run(command: &mut Command, limit: Duration, mut say: impl FnMut(&str)) -> Result<()> {
    let start = Instant::now();
    let mut said = String::new();
    loop {
        let output = process::capture(command)?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let Some(held) = errors.lines().find(|line| line.contains(HELD)) else {
            bail!("{}: {}", output.status, last_lines(&errors, 5, "; "));
        };
        let held = held.trim_start_matches("E: ");
        if start.elapsed() >= limit {
            bail!("{held}: waited {} s for it: let that program end, then run this again", limit.as_secs());
        }
        if held != said {
            say(&format!("setup: waiting for another apt: {held}"));
            held.clone_into(&mut said);
        }
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::fd::AsRawFd as _,
        path::{Path, PathBuf},
    };

    use prefault_lab::{apt, paths};

    use super::*;

    /// An apt-get that has locks of its own, and a file of which it wants the lock.
    fn private(name: &str, arguments: &[&str], lock: &str) -> (Command, PathBuf) {
        let directory = paths::target("tests/unit").join(name);
        for below in ["state", "lists/partial", "cache/archives/partial"] {
            paths::create_dir(&directory.join(below)).expect("target is writable");
        }
        for (file, text) in [("status", ""), ("sources.list", ""), ("apt.conf", &apt::configuration(&directory))] {
            paths::write(&directory.join(file), text).expect("target is writable");
        }
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C").arg("--config-file").arg(directory.join("apt.conf")).args(arguments);
        (command, directory.join(lock))
    }

    /// Locks a file as apt does. The lock is gone with the file.
    fn hold(path: &Path) -> File {
        let file = File::create(path).expect("target is writable");
        let whole = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: the descriptor is open and the structure is read during the call only.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const whole) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        file
    }

    #[test]
    fn each_lock_of_apt_is_waited_for() {
        for (name, arguments, lock) in [
            ("apt-lists", &["update"][..], "lists/lock"),
            ("apt-frontend", &["install", "--yes"], "lock-frontend"),
            ("apt-archives", &["clean"], "cache/archives/lock"),
        ] {
            let (mut command, path) = private(name, arguments, lock);
            let (file, start) = (hold(&path), Instant::now());
            let mut said = Vec::new();
            thread::scope(|scope| {
                scope.spawn(move || {
                    thread::sleep(Duration::from_secs(3));
                    drop(file);
                });
                run(&mut command, LIMIT, |line| said.push(line.to_owned()))
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(start.elapsed() >= Duration::from_secs(3), "{name}");
            let expected = format!("setup: waiting for another apt: Could not get lock {}", path.display());
            assert!(said.len() == 1 && said[0].starts_with(&expected), "{name}: {said:?}");
        }
    }

    #[test]
    fn waiting_has_an_end_that_names_the_lock() {
        let (mut command, path) = private("apt-held", &["update"], "lists/lock");
        let _held = hold(&path);
        let error = run(&mut command, Duration::from_secs(1), |_| {}).expect_err("it is held").to_string();
        assert!(error.contains("lists/lock") && error.contains("waited 1 s") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn other_failures_are_not_waited_for() {
        let (mut command, _) = private("apt-other", &["install", "--yes", "no-such-package"], "lock-frontend");
        let start = Instant::now();
        let error = run(&mut command, LIMIT, |line| panic!("{line}")).expect_err("there is none").to_string();
        assert!(error.contains("no-such-package") && start.elapsed() < LIMIT / 2, "{error}");
    }
}
