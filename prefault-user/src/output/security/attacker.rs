//! What is left to somebody who runs code in a process that gave up privileges, from what the process kept. It is as long as
//! what is left is: what was closed is not listed.

use caps::Capability;

use crate::data::{Landlock, Security};

/// What can still be done, a sentence's end for each, the worst first.
pub fn abilities(security: &Security) -> Vec<String> {
    if security.system_calls == 0 {
        return vec![format!("do whatever user {} may do with these capabilities", security.uid)];
    }
    let mut abilities = by_bpf(security);
    if has(security, Capability::CAP_SYSLOG) {
        abilities.push("read the log of the kernel, and the addresses of its functions".to_owned());
    }
    abilities.extend(by_files(security));
    abilities.extend(by_sockets(security));
    abilities.push("use the descriptors that the process was started with, such as the terminal".to_owned());
    abilities.push("take processor time and memory, as far as the limits of the process go".to_owned());
    abilities
}

fn has(security: &Security, capability: Capability) -> bool {
    security.effective & capability.bitmask() != 0
}

/// seccomp cannot look at the program that is loaded, which lies in memory.
fn by_bpf(security: &Security) -> Vec<String> {
    let mut abilities = Vec::new();
    let is_admin = has(security, Capability::CAP_SYS_ADMIN);
    if is_admin {
        abilities.push(
            "overwrite the memory of every process by a BPF program (bpf_probe_write_user), unless the kernel is locked down, and \
             so become root; sysctl kernel.perf_event_paranoid=2 lets the exporter do without CAP_SYS_ADMIN"
                .to_owned(),
        );
    }
    if is_admin || (has(security, Capability::CAP_BPF) && has(security, Capability::CAP_PERFMON)) {
        abilities.push(
            "read all memory of the kernel and of every process by BPF programs and probes: passwords, keys, contents of files"
                .to_owned(),
        );
        abilities.push(
            "change running programs by breakpoints anywhere in their code (uprobes by perf_event_open), which with patience is \
             root too"
                .to_owned(),
        );
        abilities.push(
            "kill every process (bpf_send_signal), slow the kernel down, and have calls of others fail where the kernel lets BPF \
             programs do that (lsm=bpf, error injection)"
                .to_owned(),
        );
    }
    abilities
}

fn by_files(security: &Security) -> Vec<String> {
    let uid = security.uid;
    let list = |paths: &[std::path::PathBuf]| {
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut abilities = Vec::new();
    let folders = list(&security.writable);
    match security.landlock {
        Landlock::Full | Landlock::Partial => {
            let readable = [String::from("/proc and /sys"), list(&security.readable)];
            let readable = readable.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(", ");
            abilities.push(format!(
                "read what user {uid} may read below {readable}: what runs, with which arguments, and what is mounted"
            ));
            abilities.push("learn whether a file exists, its size and its times (stat), not its contents".to_owned());
            if !folders.is_empty() {
                abilities.push(format!("make, replace and remove files in {folders}, which others read"));
            }
        }
        Landlock::Missing | Landlock::NotApplied => {
            let owner = if uid == 0 { ", which is each file of root's" } else { "" };
            abilities.push(format!("read every file that user {uid} may read{owner}"));
            abilities.push(format!(
                "read the memory, environment and open files of other processes of user {uid} that have no further capabilities"
            ));
            if !folders.is_empty() {
                abilities.push(format!(
                    "make, replace and remove files wherever user {uid} may, but write none that is there already"
                ));
            }
        }
    }
    abilities
}

fn by_sockets(security: &Security) -> Vec<String> {
    let mut abilities = vec![
        "answer who asks with anything, such as wrong numbers or a page with a script".to_owned(),
        "tell the service manager that started it anything about this service".to_owned(),
    ];
    if security.connects {
        abilities.push("connect by TCP to whatever this host reaches".to_owned());
        abilities.push("send datagrams to unix sockets (syslog), if a service manager started it".to_owned());
    }
    abilities
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(names: &[Capability]) -> u64 {
        names.iter().map(Capability::bitmask).sum()
    }

    fn said(security: Security) -> String {
        abilities(&Security { system_calls: 80, ..security }).join("\n")
    }

    #[test]
    fn what_is_said_follows_from_what_was_kept() {
        use Capability::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYSLOG};
        let usual = Security {
            uid: 65520,
            landlock: Landlock::Full,
            effective: kept(&[CAP_BPF, CAP_PERFMON, CAP_SYSLOG]),
            ..Security::default()
        };
        let (least, most) = (
            said(usual.clone()),
            said(Security {
                uid: 0,
                landlock: Landlock::Missing,
                effective: kept(&[CAP_BPF, CAP_PERFMON, CAP_SYSLOG, CAP_SYS_ADMIN]),
                writable: vec!["/var/lib/x".into()],
                connects: true,
                ..Security::default()
            }),
        );
        let always = [
            "read all memory",
            "breakpoints anywhere",
            "kill every process",
            "log of the kernel",
            "answer who asks",
            "the terminal",
        ];
        for part in always {
            assert!(least.contains(part) && most.contains(part), "{part}");
        }
        let worse = ["become root", "each file of root", "memory, environment", "remove files", "by TCP", "datagrams"];
        for part in worse {
            assert!(!least.contains(part) && most.contains(part), "{part}");
        }
        assert!(least.contains("below /proc and /sys: ") && least.contains("(stat)") && !most.contains("(stat)"));
        let textfile = said(Security { writable: vec!["/var/lib/x".into()], ..usual.clone() });
        assert!(textfile.contains("remove files in /var/lib/x, which"), "{textfile}");
        let readable = said(Security { readable: vec!["/etc/prefault".into()], ..usual });
        assert!(readable.contains("below /proc and /sys, /etc/prefault: "), "{readable}");
        assert!(!said(Security::default()).contains("BPF"), "no capability is left");
    }

    #[test]
    fn a_process_that_gave_up_nothing_is_told_in_one_sentence() {
        assert_eq!(abilities(&Security::default()), ["do whatever user 0 may do with these capabilities"]);
    }
}
