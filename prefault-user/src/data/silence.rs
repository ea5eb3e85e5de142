//! Why points that are attached do not run: switches of the host silence them, and every attachment stays as it is.
//!
//! One table of codes, phrases and remedies for all outputs. A reason that is missing from the table does not pass the tests.

/// What silences points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Silence {
    /// sysctl kernel.ftrace_enabled is 0: fentry, fexit, kretprobes and kprobes on ftrace locations do not run
    /// (kernel/trace/ftrace.c, ftrace_enable_sysctl).
    FtraceOff,
    /// kprobes/enabled in debugfs is 0: no kprobe runs (kernel/kprobes.c, disarm_all_kprobes).
    KprobesOff,
}

/// Number of reasons.
pub const N_SILENCES: usize = Silence::KprobesOff as usize + 1;

/// How one reason is named.
#[derive(Debug)]
pub struct SilenceRow {
    /// The reason.
    pub silence: Silence,
    /// Its name in machine-readable outputs, in snake case.
    pub key: &'static str,
    /// Name of the time that it lasted, among the losses.
    pub loss_key: &'static str,
    /// What was missed while it lasted, behind a time.
    pub phrase: &'static str,
    /// What is so now.
    pub now: &'static str,
    /// What ends it.
    pub remedy: &'static str,
}

/// Reasons in the order of their numbers.
pub const SILENCES: [SilenceRow; N_SILENCES] = [
    SilenceRow {
        silence: Silence::FtraceOff,
        key: "ftrace_off",
        loss_key: "ftrace_off_ns",
        phrase: "in which kernel.ftrace_enabled was 0, or may have been: points that ftrace makes did not run",
        now: "kernel.ftrace_enabled is 0, so that points that ftrace makes do not run",
        remedy: "sysctl kernel.ftrace_enabled=1",
    },
    SilenceRow {
        silence: Silence::KprobesOff,
        key: "kprobes_off",
        loss_key: "kprobes_off_ns",
        phrase: "in which all kprobes were switched off, or may have been: no kprobe ran",
        now: "/sys/kernel/debug/kprobes/enabled is 0, so that no kprobe runs",
        remedy: "echo 1 > /sys/kernel/debug/kprobes/enabled",
    },
];

impl Silence {
    /// All of them, by number.
    pub const ALL: [Self; N_SILENCES] = [Self::FtraceOff, Self::KprobesOff];

    /// Its row in the table.
    #[must_use]
    pub fn row(self) -> &'static SilenceRow {
        &SILENCES[self as usize]
    }
}

/// For how long points were silenced since measuring began, and whether they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silenced {
    /// Nanoseconds, indexed by [`Silence`]: from the last look that found points running to the first one after it that did.
    pub ns: [u64; N_SILENCES],
    /// Whether it is so now.
    pub now: [bool; N_SILENCES],
}

impl Silenced {
    /// Whether any point was silenced at any time.
    #[must_use]
    pub fn ever(&self) -> bool {
        self.ns.iter().any(|&ns| ns > 0) || self.is_silenced()
    }

    /// Whether any point is silenced now.
    #[must_use]
    pub fn is_silenced(&self) -> bool {
        self.now.contains(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_reason_once_and_in_order() {
        for (index, (row, silence)) in SILENCES.iter().zip(Silence::ALL).enumerate() {
            assert_eq!((row.silence as usize, silence as usize), (index, index), "{}", row.key);
            assert_eq!(row.loss_key, format!("{}_ns", row.key));
            let camel: String = row.key.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            assert_eq!(camel, format!("{silence:?}"));
        }
    }
}
