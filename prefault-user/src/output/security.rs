//! What a process may still do, for people: the state, and what it means if somebody else runs code in the process.

mod attacker;

use std::path::PathBuf;

use crate::data::{Landlock, Security};

/// Columns of the names.
const NAME_WIDTH: usize = 14;

/// The state as text, a line for each thing.
pub fn text(security: &Security) -> String {
    let mut lines = Lines::default();
    let groups = match security.groups.as_slice() {
        [] => "no further groups".to_owned(),
        groups => format!("further groups {}", groups.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")),
    };
    lines.add("user", &format!("{}, group {}, {groups}", security.uid, security.gid));
    if security.reasons.is_empty() {
        lines.add("capabilities", &format!("{:016x}, nothing was given up", security.effective));
    }
    for (number, (name, why)) in security.reasons.iter().enumerate() {
        lines.add(if number == 0 { "capabilities" } else { "" }, &format!("{name}: {why}"));
    }
    let bounding = match security.bounding {
        0 => "empty".to_owned(),
        set if security.bounding_left => format!("{set:016x}, could not be emptied without CAP_SETPCAP"),
        set => format!("{set:016x}"),
    };
    lines.add("bounding set", &bounding);
    lines.add("no_new_privs", if security.no_new_privs { "yes" } else { "no" });
    let readable = [PathBuf::from("/proc"), PathBuf::from("/sys")];
    let paths = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let files = || {
        let reads = paths(&mut readable.iter().chain(&security.readable));
        let writes = paths(&mut security.writable.iter());
        if writes.is_empty() {
            format!("reads {reads}; writes nothing")
        } else {
            format!("reads {reads}; writes {writes}")
        }
    };
    match security.landlock {
        Landlock::Full => {
            let tcp = if security.connects { "listens nowhere else" } else { "no TCP connections" };
            lines.add("landlock", &format!("{}; {tcp}, no signals to others", files()));
        }
        Landlock::Partial => lines.add("landlock", &format!("{}; not all is restricted (6.12)", files())),
        Landlock::Missing => lines.add("landlock", "not in this kernel (5.13), or not switched on (lsm=)"),
        Landlock::NotApplied => lines.add("landlock", "no"),
    }
    match security.system_calls {
        0 => lines.add("seccomp", "no"),
        calls => {
            let sockets = if security.connects { ", new sockets for TCP alone" } else { ", no new sockets" };
            lines.add("seccomp", &format!("{calls} system calls are left; no programs{sockets}"));
        }
    }
    lines.0.push_str("An attacker who runs code in this process can still\n");
    for ability in attacker::abilities(security) {
        lines.0.push_str(&format!("- {ability}\n"));
    }
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, what: &str) {
        self.0.push_str(&format!("{name:<NAME_WIDTH$}{what}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_told_line_by_line() {
        let confined = Security {
            uid: 998,
            gid: 997,
            effective: 1 << 39,
            no_new_privs: true,
            reasons: vec![("CAP_BPF".to_owned(), "reads"), ("CAP_SYSLOG".to_owned(), "looks")],
            landlock: Landlock::Full,
            system_calls: 90,
            writable: vec!["/var/lib/x".into()],
            ..Security::default()
        };
        let expected = "\
user          998, group 997, no further groups
capabilities  CAP_BPF: reads
              CAP_SYSLOG: looks
bounding set  empty
no_new_privs  yes
landlock      reads /proc /sys; writes /var/lib/x; no TCP connections, no signals to others
seccomp       90 system calls are left; no programs, no new sockets
An attacker who runs code in this process can still
";
        let text = text(&confined);
        let (state, abilities) = text.split_at(expected.len().min(text.len()));
        assert_eq!(state, expected);
        assert!(abilities.lines().count() > 3 && abilities.lines().all(|line| line.starts_with("- ")), "{abilities}");
    }

    #[test]
    fn a_process_that_gave_up_nothing_says_so() {
        let text = text(&Security { effective: 0x1ff_ffff_ffff, bounding: 1, groups: vec![4], ..Security::default() });
        for part in
            ["000001ffffffffff, nothing was given up", "no_new_privs  no", "landlock      no", "seccomp       no"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
