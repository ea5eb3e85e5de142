//! What a process that has given up its privileges can and cannot do: the judgement of what the program `confined` says it
//! tried, on this machine and in guests.

use anyhow::{Result, ensure};

use super::matrix::kernels::{Span, Version};

/// Debian's kernels have landlock since its release with 6.1, in part until 6.12.
const LANDLOCK: Span = Span::since((6, 1));
const WHOLE_LANDLOCK: Span = Span::since((6, 12));

/// What is said of the process.
const STATE: [&str; 6] = [
    "CAP_BPF: ",
    "CAP_PERFMON: ",
    "CAP_SYSLOG: ",
    "bounding set  empty\n",
    "no_new_privs  yes\n",
    " system calls are left",
];
/// What has to go on.
const LEFT: [&str; 10] = [
    "read symbols",
    "read own status",
    "read mounts of process 1",
    "list modules",
    "accept",
    "start a thread",
    "tell the service manager",
    "wait",
    "read what is readable",
    "replace a file",
];
/// What landlock takes.
const FILES: [&str; 3] = ["read another file", "write into another folder", "write what is readable"];
/// What seccomp takes.
const CALLS: [&str; 13] = [
    "connect",
    "listen",
    "start a program",
    "become another program",
    "fork",
    "mount",
    "trace process 1",
    "signal process 1",
    "become root",
    "enter a new namespace",
    "change the root",
    "load a module",
    "make memory executable",
];

/// Judges what the program said; a kernel of no known version is taken to have what the program says it has.
///
/// # Errors
/// Naming what is possible and should not be, or the other way round.
pub fn given_up(text: &str, version: Option<Version>) -> Result<()> {
    let says = |part: &str| text.contains(part);
    if let Some(version) = version {
        let (has, has_whole) = (LANDLOCK.contains(version), WHOLE_LANDLOCK.contains(version));
        ensure!(says("landlock      reads /proc") == has, "landlock is expected: {has}\n{text}");
        ensure!(says("no signals to others") == has_whole, "all of landlock is expected: {has_whole}\n{text}");
    }
    for part in STATE {
        ensure!(says(part), "expected {part:?} in\n{text}");
    }
    let files = if says("landlock      reads /proc") { "13" } else { "done" };
    let groups = [(LEFT.as_slice(), "done"), (&FILES, files), (&CALLS, "1")];
    for (attempt, expected) in
        groups.into_iter().flat_map(|(group, expected)| group.iter().map(move |name| (name, expected)))
    {
        let line = format!("\n{attempt}: {expected}\n");
        ensure!(says(&line), "expected {:?} in\n{text}", line.trim());
    }
    Ok(())
}
