//! What a process may do, as the kernel shows it and as it was given up.

use std::path::PathBuf;

/// The state of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Effective user number.
    pub uid: u32,
    /// Effective group number.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Effective capabilities, by number a bit each.
    pub effective: u64,
    /// The bounding set, likewise.
    pub bounding: u64,
    /// Whether a program that is executed can gain nothing.
    pub no_new_privs: bool,
    /// Names of the capabilities that were kept, and what for; empty if nothing was given up.
    pub reasons: Vec<(String, &'static str)>,
    /// The bounding set could not be emptied, for want of CAP_SETPCAP.
    pub bounding_left: bool,
    /// Whether landlock restricts it.
    pub landlock: Landlock,
    /// System calls that seccomp leaves, 0 if it does not restrict.
    pub system_calls: usize,
    /// Files and folders that it can read, besides /proc and /sys.
    pub readable: Vec<PathBuf>,
    /// Folders in which it can write.
    pub writable: Vec<PathBuf>,
    /// Whether it can connect by TCP.
    pub connects: bool,
}

/// What landlock does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Landlock {
    /// Everything that was asked for.
    Full,
    /// Files, and not everything else that was asked for: the kernel is older than 6.12.
    Partial,
    /// The kernel does not have it.
    Missing,
    /// Nobody asked.
    #[default]
    NotApplied,
}

impl Security {
    /// Reads the text of /proc/self/status; what that does not say is as if nothing was given up.
    pub fn of_status(status: &str) -> Self {
        let words = |key| line(status, key).unwrap_or_default().split_whitespace();
        // Real, effective, saved, filesystem.
        let number = |key| words(key).nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
        Self {
            uid: number("Uid:"),
            gid: number("Gid:"),
            groups: words("Groups:").filter_map(|group| group.parse().ok()).collect(),
            effective: capability_set(status, "CapEff:"),
            bounding: capability_set(status, "CapBnd:"),
            no_new_privs: words("NoNewPrivs:").next() == Some("1"),
            ..Self::default()
        }
    }
}

/// The set of capabilities behind `key` in the text of /proc/self/status, empty if there is none.
pub fn capability_set(status: &str, key: &str) -> u64 {
    line(status, key).and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

fn line<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read_from_status() {
        let status = "Name:\tprefault\nUid:\t998\t998\t998\t998\nGid:\t997\t997\t997\t997\nGroups:\t4 24 \n\
                      CapEff:\t000000c400000000\nCapBnd:\t0000000000000001\nNoNewPrivs:\t1\n";
        let expected = Security {
            uid: 998,
            gid: 997,
            groups: vec![4, 24],
            effective: 0xc4_0000_0000,
            bounding: 1,
            no_new_privs: true,
            ..Security::default()
        };
        assert_eq!(Security::of_status(status), expected);
        assert_eq!(Security::of_status(""), Security::default());
    }
}
