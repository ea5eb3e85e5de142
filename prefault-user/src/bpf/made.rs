//! What the kernel has made of the probes: a jump costs less than two thirds of a breakpoint, and which it is the kernel alone
//! decides, some time after a probe was placed.

use std::{
    collections::HashMap,
    fmt, fs, io, thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::data::Points;

/// Where the kernel lists its kprobes (kernel/kprobes.c, show_kprobe_addr).
pub const KPROBES: &str = "/sys/kernel/debug/kprobes/list";

/// How long the kernel is given; it waits for every task to have slept or been in user mode.
const PATIENCE: Duration = Duration::from_secs(3);

/// What has not changed for so long is taken to be settled.
const SETTLED: Duration = Duration::from_millis(500);

/// How often the list is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What a kprobe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KprobeKind {
    /// A jump in place of the breakpoint.
    Jump,
    /// A call that ftrace makes.
    Ftrace,
    /// A breakpoint, at which the processor traps.
    Trap,
}

impl fmt::Display for KprobeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Jump => "jump",
            Self::Ftrace => "ftrace",
            Self::Trap => "trap",
        })
    }
}

/// The kprobes of the running kernel by address, as they are now.
///
/// # Errors
/// If the list cannot be read.
pub(super) fn look() -> io::Result<HashMap<u64, KprobeKind>> {
    Ok(parse(&String::from_utf8_lossy(&fs::read(KPROBES)?)))
}

/// What the kernel has made of the kprobes at `addresses`; `None` if there are none, or it does not say of all.
pub(super) fn points(kprobes: &HashMap<u64, KprobeKind>, addresses: &[u64]) -> Option<Points> {
    let made: Vec<KprobeKind> = addresses.iter().map(|address| kprobes.get(address).copied()).collect::<Option<_>>()?;
    let first = *made.first()?;
    Some(match first {
        _ if made.iter().any(|other| *other != first) => Points::Mixed,
        KprobeKind::Jump => Points::Jumps,
        KprobeKind::Trap => Points::Traps,
        KprobeKind::Ftrace => Points::Mixed,
    })
}

/// The kprobes of the running kernel by address, once they have settled.
///
/// # Errors
/// If the list cannot be read: debugfs is not mounted, or not for this user.
pub fn kprobes() -> io::Result<HashMap<u64, KprobeKind>> {
    let begun = Instant::now();
    let mut kprobes = look()?;
    let mut changed = begun;
    while changed.elapsed() < SETTLED && begun.elapsed() < PATIENCE {
        thread::sleep(LOOK);
        let now = look()?;
        if now != kprobes {
            kprobes = now;
            changed = Instant::now();
        }
    }
    Ok(kprobes)
}

/// Lines such as `ffffffff81001234  k  vfs_write+0x5    [OPTIMIZED]`.
pub(crate) fn parse(list: &str) -> HashMap<u64, KprobeKind> {
    let entry = |line: &str| {
        let address = u64::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
        let made = if line.contains("[OPTIMIZED]") {
            KprobeKind::Jump
        } else if line.contains("[FTRACE]") {
            KprobeKind::Ftrace
        } else {
            KprobeKind::Trap
        };
        Some((address, made))
    };
    list.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_a_kprobe_is() {
        let list = "ffffffff81001234  k  vfs_write+0x5    [OPTIMIZED]\n\
                    ffffffffc0801000  r  fuse_perform_write+0x0  fuse [DISABLED][FTRACE]\n\
                    ffffffff81001300  k  vfs_write+0x99    \nnonsense\n";
        let made = parse(list);
        assert_eq!(made.len(), 3);
        assert_eq!(made[&0xffff_ffff_8100_1234], KprobeKind::Jump);
        assert_eq!(made[&0xffff_ffff_c080_1000], KprobeKind::Ftrace);
        assert_eq!(made[&0xffff_ffff_8100_1300], KprobeKind::Trap);
    }
}
