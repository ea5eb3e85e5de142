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
    /// It panicked because a processor ran a breakpoint that was not there any more, which is QEMU's doing and not the kernel's: see
    /// [`ran_stale_breakpoint`]; the end of its console.
    StaleBreakpoint(String),
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
        _ if console.contains("Kernel panic") && ran_stale_breakpoint(console) => Outcome::StaleBreakpoint(tail()),
        _ if console.contains("Kernel panic") => Outcome::Panicked(tail()),
        (_, None) => Outcome::TimedOut,
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(status)) if !started && status.signal().is_some() => {
            Outcome::EmulatorFailed(format!("{}\n{status}", tail()))
        }
        (None, Some(_)) => Outcome::NoVerdict { started, console: tail() },
    }
}

/// The code that a kernel shows of where it was; the byte in angle brackets is the next one.
const CODE: &str = "Code: ";
/// How it says that a breakpoint was nobody's.
const UNKNOWN_BREAKPOINT: &str = "int3: 0000";
const BREAKPOINT: &str = "cc";

/// Whether the first thing that went wrong was a breakpoint that nobody knew, while the memory behind it has none.
///
/// QEMU throws translations of code away before it stores what changes the code (accel/tcg/cputlb.c, notdirty_write), so that
/// another processor may translate the old bytes in between, and keeps that. The kernel waits until every processor must have seen
/// that a breakpoint is gone and then knows it no more (8e791f7eba4c "x86/kprobes: Drop removed INT3 handling code"). Seen twice:
/// beside a writer that waits for nothing while probes came and went, and in text that was none of ours.
fn ran_stale_breakpoint(console: &str) -> bool {
    let mut lines = console.lines().skip_while(|line| !line.contains(" [#1] "));
    let is_unknown = lines.next().is_some_and(|line| line.contains(UNKNOWN_BREAKPOINT));
    let code = lines.find_map(|line| line.split_once(CODE));
    let before = code.and_then(|(_, code)| code.split(" <").next()?.split(' ').next_back());
    is_unknown && before.is_some_and(|byte| byte != BREAKPOINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breakpoint_that_is_still_there_is_the_kernels() {
        let console = |oops: &str, code: &str| {
            format!(
                "[ 1.0] boot\n[ 2.0] {oops} [#1] PREEMPT SMP\n[ 2.1] RIP: 0010:f+0x98/0x290\n[ 2.2] Code: {code}\n\
                     [ 2.3] Code: 05 cc <48> 3d\n[ 2.4] Kernel panic - not syncing: Fatal exception\n"
            )
        };
        let stale = |oops: &str, code: &str| ran_stale_breakpoint(&console(oops, code));
        assert!(stale("Oops: int3: 0000", "e6 00 00 4c <89> ff 48"));
        assert!(stale("int3: 0000", "4c <89> ff"));
        assert!(!stale("Oops: int3: 0000", "e6 00 00 cc <89> ff 48"));
        assert!(!stale("Oops: general protection fault: 0000", "e6 00 00 4c <89> ff 48"));
        assert!(!ran_stale_breakpoint("[ 2.0] int3: 0000 [#1] SMP\n"));
    }

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
