//! Switches of the kernel that silence points while they stay attached.

use std::{fs, path::Path};

use crate::data::{Silence, silence::N_SILENCES};

/// Their files, indexed by [`Silence`].
pub const SWITCHES: [&str; N_SILENCES] = ["/proc/sys/kernel/ftrace_enabled", "/sys/kernel/debug/kprobes/enabled"];

/// Whether the switch of `silence`, below `root` (normally `/`), is off; not if it cannot be read.
#[must_use]
pub fn is_off(root: &Path, silence: Silence) -> bool {
    let switch = SWITCHES[silence as usize];
    let switch = root.join(switch.strip_prefix('/').unwrap_or(switch));
    fs::read_to_string(switch).is_ok_and(|value| value.trim_end() == "0")
}
