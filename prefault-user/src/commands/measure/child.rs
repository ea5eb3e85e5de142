//! The command that a measurement starts, and ends if it is ended first.

use std::{ffi::OsString, io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};

use crate::{host::limits, monitor::live::Live};

/// How long a command may take to end by itself once it was asked to.
const LONGEST_END: Duration = Duration::from_secs(5);

/// Starts the command. If it is to be followed, this process is measured for the moment of the fork, so that the
/// child is from its first instruction on.
pub fn spawn(live: &mut Live, command: &[OsString], follow: bool) -> Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let own = std::process::id();
    if follow {
        live.measure_process(own, true)?;
    }
    let mut command = Command::new(program);
    // SAFETY: setting limits is a system call alone, which may be made between fork and exec.
    let child = unsafe { command.args(arguments).pre_exec(limits::give_back) }.spawn();
    if follow {
        live.measure_process(own, false)?;
    }
    child.with_context(|| format!("failed to start {}", program.display())).map(Some)
}

/// Waits for the end of the command; for ever if there is none.
///
/// # Errors
/// If it cannot be waited for.
pub async fn exited(child: &mut Option<Child>) -> Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await.context("failed to wait for the command"),
        None => std::future::pending().await,
    }
}

/// Asks a command to end, and makes it if it does not.
///
/// # Errors
/// If it cannot be ended.
pub async fn end(child: &mut Child) -> io::Result<()> {
    if let Some(process) = child.id() {
        // SAFETY: the call takes numbers; the process is a child that has not been waited for.
        unsafe { libc::kill(process as libc::pid_t, libc::SIGTERM) };
    }
    if tokio::time::timeout(LONGEST_END, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// Its exit code; that of a signal is 128 and its number, as shells have it.
pub fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128 + signal as u8,
        (None, None) => 1,
    }
}
