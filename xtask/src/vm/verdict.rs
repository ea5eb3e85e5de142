//! How a guest ended. The guest reports over a channel of its own; the kernel's console is only read for panics.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use crate::process;

/// What the guest writes when it is about to run the command.
const STARTED: &str = "started";
const CONSOLE_LINES_SHOWN: usize = 60;

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command ended with this code (128 and the signal's number if a signal ended it) and the guest shut down.
    Exited(u8),
    /// The guest was ended by the time limit.
    TimedOut,
    /// The guest's kernel panicked; the end of its console.
    Panicked(String),
    /// A signal ended QEMU before the guest had started the command; the end of the console, with what QEMU said, and the signal.
    EmulatorFailed(String),
    /// The guest ended without saying how the command ended; the end of its console.
    NoVerdict {
        /// Whether the command was started at all.
        started: bool,
        /// The end of the console.
        console: String,
    },
}

/// Whether the guest has reported that it runs the command.
#[must_use]
pub fn has_started(control: &str) -> bool {
    control.lines().any(|line| line == STARTED)
}

/// Judges a guest that has ended, `status` being QEMU's, which has none if the time limit ended it. A panic outranks a verdict:
/// one after the command is still a failure of the kernel.
#[must_use]
pub fn judge(control: &str, console: &str, status: Option<ExitStatus>) -> Outcome {
    let code = control.lines().find_map(|line| line.strip_prefix("exit ")?.parse().ok());
    let tail = || process::last_lines(console, CONSOLE_LINES_SHOWN, "\n");
    let started = has_started(control);
    match (code, status) {
        _ if console.contains("Kernel panic") => Outcome::Panicked(tail()),
        (_, None) => Outcome::TimedOut,
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(status)) if !started && status.signal().is_some() => {
            Outcome::EmulatorFailed(format!("{}\n{status}", tail()))
        }
        (None, Some(_)) => Outcome::NoVerdict { started, console: tail() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_judged_by_control_channel_console_and_clock() {
        let (ended, aborted) = (Some(ExitStatus::from_raw(0)), Some(ExitStatus::from_raw(libc::SIGABRT)));
        let table = [
            ("started\nexit 7\n", "", ended, Outcome::Exited(7)),
            ("started\nexit 7\n", "", aborted, Outcome::Exited(7)),
            ("started\n", "", None, Outcome::TimedOut),
            ("started\nexit 0\n", "", None, Outcome::TimedOut),
            ("started\n", "a\nKernel panic - x\n", ended, Outcome::Panicked("a\nKernel panic - x".to_owned())),
            ("started\nexit 0\n", "Kernel panic - x\n", ended, Outcome::Panicked("Kernel panic - x".to_owned())),
            ("started\n", "b\n", ended, Outcome::NoVerdict { started: true, console: "b".to_owned() }),
            ("started\n", "b\n", aborted, Outcome::NoVerdict { started: true, console: "b".to_owned() }),
            ("", "b\n", ended, Outcome::NoVerdict { started: false, console: "b".to_owned() }),
            ("", "b\n", aborted, Outcome::EmulatorFailed("b\nsignal: 6 (SIGABRT)".to_owned())),
            ("started\nexit x\n", "", ended, Outcome::NoVerdict { started: true, console: String::new() }),
        ];
        for (control, console, status, expected) in table {
            assert_eq!(judge(control, console, status), expected, "{control:?} {console:?} {status:?}");
        }
    }
}
