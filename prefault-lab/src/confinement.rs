//! What a process that has given up its privileges can and cannot do: the judgement of what the program `confined` says it
//! tried, on this machine and in guests.

use anyhow::{Result, ensure};

use super::matrix::kernels::{Span, Version};

/// Debian's kernels have landlock since its release with 6.1.
pub const LANDLOCK: Span = Span::since((6, 1));
/// And all of what is asked for.
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
const LEFT: [&str; 12] = [
    "read symbols",
    "read own status",
    "count own descriptors",
    "read mounts of process 1",
    "list modules",
    "accept",
    "accept from a unix socket",
    "start a thread",
    "tell the service manager",
    "wait",
    "read what is readable",
    "replace a file",
];
/// What cannot be taken from a process that makes probes, and is said. Without CAP_SYS_ADMIN it was refused (EACCES) on 6.12 and 7.3
/// and not on 5.10.
const BREAK_IN: &str = "break into another program";
/// What landlock takes, and nothing else.
const LANDLOCKED: [&str; 5] = [
    "read another file",
    "make a file in another folder",
    "read memory of a process of the same user",
    "look at its open files",
    "look at its root folder",
];
/// What landlock takes as long as CAP_PERFMON does not give it, which reads all memory: may_access_mm() in kernel/fork.c lets it
/// read in 6.18 and not in 6.12.
const ENVIRONMENT: &str = "read its environment";
const BY_PERFMON: Span = Span::since((6, 15));
/// What capabilities take.
const CAPABILITIES: [&str; 1] = ["read memory of process 1"];
/// What seccomp takes.
const CALLS: [&str; 55] = [
    "start a program",
    "connect",
    "listen",
    "send by UDP",
    "make a pair of sockets",
    "send to another than the service manager",
    "connect its socket to another",
    "pass a descriptor on",
    "take a descriptor",
    "signal by the owner of a descriptor",
    "ask by a stream",
    "ask by packets",
    "ask by datagrams",
    "ask the kernel by netlink",
    "ask the hypervisor",
    "use the kernel's ciphers",
    "write what is readable",
    "write what it replaces",
    "write another file",
    "write memory of a process of the same user",
    "have the kernel start a program",
    "change a setting below /sys",
    "let a program be another user's",
    "become another program",
    "fork",
    "mount",
    "trace process 1",
    "trace a process of the same user",
    "signal process 1",
    "signal a process of the same user",
    "signal a thread of it",
    "become root",
    "enter a new namespace",
    "enter a new user namespace",
    "change the root",
    "load a module",
    "make memory executable",
    "refer to another process",
    "take a descriptor of another process",
    "read another process's memory",
    "write another process's memory",
    "type into the terminal",
    "add a key",
    "use the keys of its user",
    "read the limits of another process",
    "set its own limits",
    "make an io_uring",
    "be dumped again",
    "walk through BPF programs of others",
    "take a BPF program of others",
    "take a BPF map of others",
    "pin a BPF object",
    "take a pinned BPF object",
    "attach to a cgroup",
    "measure all BPF programs",
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
    let landlocked = if says("landlock      reads /proc") { "13" } else { "done" };
    let groups = [(LEFT.as_slice(), "done"), (&LANDLOCKED, landlocked), (&CAPABILITIES, "13"), (&CALLS, "1")];
    let n_expected = groups.iter().map(|(group, _)| group.len()).sum::<usize>() + 2;
    let n_tried = text.lines().filter(|line| line.ends_with(": done") || is_refused(line)).count();
    ensure!(n_tried == n_expected, "{n_tried} attempts, of {n_expected} it is known what is expected\n{text}");
    for (attempt, expected) in
        groups.into_iter().flat_map(|(group, expected)| group.iter().map(move |name| (name, expected)))
    {
        let line = format!("\n{attempt}: {expected}\n");
        ensure!(says(&line), "expected {:?} in\n{text}", line.trim());
    }
    let environment = match version {
        Some(version) if BY_PERFMON.contains(version) => vec!["done"],
        Some(_) => vec![landlocked],
        None => vec!["done", landlocked],
    };
    let break_in = if version.is_some() && says("CAP_SYS_ADMIN: ") { vec!["done"] } else { vec!["done", "13"] };
    for (attempt, allowed) in [(ENVIRONMENT, environment), (BREAK_IN, break_in)] {
        let as_expected = allowed.iter().any(|expected| says(&format!("\n{attempt}: {expected}\n")));
        ensure!(as_expected, "expected {attempt:?}: {}\n{text}", allowed.join(" or "));
    }
    Ok(())
}

fn is_refused(line: &str) -> bool {
    line.rsplit_once(": ").is_some_and(|(_, error)| error.parse::<u32>().is_ok())
}
