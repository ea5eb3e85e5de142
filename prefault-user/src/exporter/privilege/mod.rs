//! Giving up what a process that measures no longer needs, once everything is attached and all sockets are open.
//!
//! For processes that go on alone, as the exporter does. A process that starts a command for its user is left as it is:
//! nothing of this can be taken back, and the command would have it too.

pub mod capabilities;
mod landlock;
mod seccomp;
pub mod user;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use self::user::Account;
use crate::{
    data::{self, Security},
    host::environment::paranoid_level,
};

/// How long a thread that has ended may be listed.
const LISTED: Duration = Duration::from_secs(1);

/// What a process wants to keep besides what following modules, reading counters and answering sockets takes.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    /// Whom it becomes, `None` to stay who it is.
    pub account: Option<Account>,
    /// Files and folders that it reads, besides /proc and /sys.
    pub readable: Vec<PathBuf>,
    /// Folders in which it makes, replaces and removes files.
    pub writable: Vec<PathBuf>,
    /// Whether it connects by TCP.
    pub connects: bool,
    /// Leaves landlock out, so that tests see on every kernel what is left where there is none.
    pub without_landlock: bool,
}

impl Confinement {
    /// Applies everything that this kernel has to this thread and those it starts; it cannot be taken back.
    ///
    /// # Errors
    /// If the process has more than one thread already, may not become the account, or the kernel refuses something that
    /// it has. What the kernel does not have is no error; the result says so.
    pub fn apply(&self) -> Result<Security> {
        ensure!(is_alone()?, "failed to give up privileges: threads that would keep them run already");
        let kept = capabilities::needed(&status()?, paranoid_level(Path::new("/")));
        // The first of these needs privileges that the second gives up.
        let bounding_left = capabilities::empty_bounding_set()?;
        no_core().context("failed to set the limit of core files")?;
        if let Some(account) = &self.account {
            account.become_it()?;
        }
        capabilities::keep(&kept)?;
        not_dumpable().context("failed to make the process not dumpable")?;
        no_new_privileges().context("failed to set no_new_privs")?;
        let landlock = if self.without_landlock { data::Landlock::Missing } else { landlock::apply(self)? };
        let system_calls = seccomp::apply(self)?;
        Ok(Security {
            reasons: capabilities::reasons(&kept),
            bounding_left,
            landlock,
            system_calls,
            readable: self.readable.clone(),
            writable: self.writable.clone(),
            connects: self.connects,
            ..Security::of_status(&status()?)
        })
    }
}

/// The state of a process that gave up nothing.
///
/// # Errors
/// If /proc/self/status cannot be read.
pub fn unconfined() -> Result<Security> {
    Ok(Security::of_status(&status()?))
}

fn status() -> Result<String> {
    fs::read_to_string("/proc/self/status").context("failed to read /proc/self/status")
}

/// Whether this is the only thread. One that has been waited for is listed for a moment longer.
fn is_alone() -> Result<bool> {
    let begun = Instant::now();
    loop {
        let n_threads = fs::read_dir("/proc/self/task").context("failed to list the threads")?.count();
        if n_threads == 1 || begun.elapsed() > LISTED {
            return Ok(n_threads == 1);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Keys of TLS are in memory, and core files are often kept where others read them.
fn no_core() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })
}

/// Keeps other processes of the same user out of this one's memory and descriptors, and its memory out of the programs that
/// get core dumps by a pipe, whatever the limit is. The files below /proc/self then belong to the superuser. That matters for
/// fdinfo alone, with what the kernel knows of programs, and only before 5.15 (7bc3fa0172a4 "procfs: allow reading fdinfo
/// with PTRACE_MODE_READ"): a process that is not the superuser stays dumpable there.
fn not_dumpable() -> io::Result<()> {
    for dumpable in [0, 1] {
        // SAFETY: the call takes numbers.
        check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, dumpable, 0, 0, 0) })?;
        if fs::read_dir("/proc/self/fdinfo").is_ok() {
            break;
        }
    }
    Ok(())
}

fn no_new_privileges() -> io::Result<()> {
    // SAFETY: the call takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// The error of a system call that returned -1.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
