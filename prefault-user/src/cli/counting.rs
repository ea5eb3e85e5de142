//! Options of everything that counts: what is taken along, and how the kernel is probed.

use clap::{Args, ValueEnum};

/// What is taken along, and how.
#[derive(Debug, Args)]
pub struct CountingArgs {
    /// Also measure and show what measuring takes: the time spent in this tool's BPF programs (it makes each run of every
    /// BPF program on this host a little slower meanwhile)
    #[arg(long)]
    pub own_cost: bool,
    /// Say on standard error what is being done, and pass on messages of the BPF programs
    #[arg(short, long)]
    pub verbose: bool,
    /// Filesystems that are counted on their own; those beyond are counted together as `other`
    #[arg(long, value_name = "N", default_value_t = prefault_ebpf::DEFAULT_SLOTS,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(prefault_ebpf::MAX_SLOTS)))]
    pub slots: u32,
    /// Time only one write in N, chosen at random, with its prefaults and copies; all are counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sample: Option<u32>,
    /// Time nothing, only count, which takes fewer probes unless single events are wanted too (--events, --json)
    #[arg(long, conflicts_with = "sample")]
    pub no_latency: bool,
    /// Take at most so many percent of all processors' time: first time only one write in 100, then count in a part of the
    /// time only and estimate the totals (not with --sample)
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "sample")]
    pub max_overhead: Option<f64>,
    /// How the kernel is probed: auto (the cheapest way that is exact, and with --max-overhead can come and go), fentry,
    /// optimised (kprobes that become jumps), or trap (kprobes that stay breakpoints)
    #[arg(long, value_enum, value_name = "HOW", default_value_t, hide_possible_values = true)]
    pub mechanism: Mechanism,
}

/// A share of the time that can be kept to.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.01..=100.0).contains(&percent) => Ok(percent),
        _ => Err("give a percentage from 0.01 to 100, such as 1".to_owned()),
    }
}

/// How the kernel is probed, where there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mechanism {
    /// The cheapest way that is exact on this kernel
    #[default]
    Auto,
    /// Entries and returns of the kernel's own write paths by fentry and fexit
    Fentry,
    /// Everything by kprobes, placed so that the kernel can make jumps of them
    Optimised,
    /// Everything by kprobes on the very instructions, which stay breakpoints
    Trap,
}
