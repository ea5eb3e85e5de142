//! How a guest ended. The guest reports over a channel of its own; the kernel's console is only read for panics.

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

/// Judges a guest that has ended. A panic outranks a verdict: one after the command is still a failure of the kernel.
#[must_use]
pub fn judge(control: &str, console: &str, timed_out: bool) -> Outcome {
    let code = control.lines().find_map(|line| line.strip_prefix("exit ")?.parse().ok());
    let tail = || process::last_lines(console, CONSOLE_LINES_SHOWN, "\n");
    match code {
        _ if console.contains("Kernel panic") => Outcome::Panicked(tail()),
        _ if timed_out => Outcome::TimedOut,
        Some(code) => Outcome::Exited(code),
        None => Outcome::NoVerdict { started: has_started(control), console: tail() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_judged_by_control_channel_console_and_clock() {
        let table = [
            ("started\nexit 7\n", "", false, Outcome::Exited(7)),
            ("started\n", "", true, Outcome::TimedOut),
            ("started\nexit 0\n", "", true, Outcome::TimedOut),
            ("started\n", "a\nKernel panic - x\n", false, Outcome::Panicked("a\nKernel panic - x".to_owned())),
            ("started\nexit 0\n", "Kernel panic - x\n", false, Outcome::Panicked("Kernel panic - x".to_owned())),
            ("started\n", "b\n", false, Outcome::NoVerdict { started: true, console: "b".to_owned() }),
            ("", "b\n", false, Outcome::NoVerdict { started: false, console: "b".to_owned() }),
            ("started\nexit x\n", "", false, Outcome::NoVerdict { started: true, console: String::new() }),
        ];
        for (control, console, timed_out, expected) in table {
            assert_eq!(judge(control, console, timed_out), expected, "{control:?} {console:?} {timed_out}");
        }
    }
}
