//! The command line as typed; what it means is decided in `commands`.

pub mod address;
pub mod counting;
#[cfg(feature = "otlp")]
pub mod endpoint;
pub mod export;
pub mod privilege;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use clap::{
    Args, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser as _},
};

use crate::cli::{
    counting::{CountingArgs, Mechanism},
    export::ExportArgs,
};

/// Measures, on a live kernel and per filesystem, how often the prefault of a buffered write runs and was needed, how
/// often the atomic copy comes up short, and how long both take.
#[derive(Debug, Parser)]
#[command(
    name = "prefault",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  sudo prefault                      a table every 5 s until Ctrl-C, then the final report
  sudo prefault -d 10                measure for 10 s
  sudo prefault -- dd if=/dev/zero of=file bs=4k count=1000
                                     measure while a command runs
  sudo prefault -d 10 --json | jq .  one JSON document at the end
  sudo prefault -i 1 --json          one a second, each on a line
  sudo prefault export               metrics for Prometheus at http://localhost:29186/metrics
  sudo prefault doctor               what can be measured on this kernel, and how

SIGUSR1 ends an interval: a table, or a document, of what was counted since the one before. A script
that is COMMAND can end its phases so: kill -USR1 $PPID, and wait until that has been written.

Exit codes:
  0  done (Ctrl-C, SIGTERM and a closed pipe included)
  1  `doctor`: the main job cannot run here; `selftest`: a count differs
  2  an error, said in one line on standard error
  3  measured, but a switch of the host silenced points for a time, which is in the loss
  N  with COMMAND: its own exit code unless that is 0, or 128 plus the signal that ended it"
)]
pub struct Cli {
    /// What to do; measuring, if nothing is given.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what can be measured on this kernel, how, at what cost, and what is missing
    Doctor(DoctorArgs),
    /// Measure until told to stop, and answer Prometheus
    Export(Box<ExportArgs>),
    /// Prove the counts on this host: known writes to its filesystems, counted and compared
    Selftest(SelftestArgs),
}

/// Options of measuring.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Stop after this many seconds, and end COMMAND if it still runs [default: when interrupted, or when COMMAND ends]
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Print a table, or with --json a document on a line of its own, every so many seconds [default: 5; with COMMAND or
    /// --json none]
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<Duration>,
    /// Print JSON instead of text: one document at the end, or one of each interval
    #[arg(long)]
    pub json: bool,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also print each short copy and each failed prefault as it happens
    #[arg(long, conflicts_with = "json")]
    pub events: bool,
    /// How it counts.
    #[command(flatten)]
    pub counting: CountingArgs,
    /// Which writes.
    #[command(flatten)]
    pub filters: FilterArgs,
    /// Measure while this command runs, and return its exit code
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Which writes are measured; a write has to match every kind that is given, and one of its values.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which writes (all, if nothing is given)")]
pub struct FilterArgs {
    /// Only of this process; may be repeated
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,
    /// Also of the processes that those of --pid start from now on; without --pid: of COMMAND and what it starts
    #[arg(long)]
    pub follow: bool,
    /// Only of threads of this name, as `ps -o comm` shows it, and of all threads of processes whose first thread has it, their
    /// io_uring workers included; may be repeated. What the kernel's own threads write for somebody (loop devices, nfsd) is
    /// written under their names
    #[arg(long = "comm", value_name = "NAME", value_parser = OsStringValueParser::new().try_map(comm))]
    pub comms: Vec<OsString>,
    /// Only of this cgroup (version 2) and those below it, such as /sys/fs/cgroup/system.slice
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Only to filesystems of this type, such as ext4; may be repeated. It has to be one that this kernel has, or that a module
    /// brings
    #[arg(long = "fstype", value_name = "TYPE", value_parser = fstype)]
    pub fstypes: Vec<String>,
    /// Only to filesystems on this device, such as /dev/sda1 or 8:1, or to the device itself; may be repeated. What is on a
    /// partition is not on the whole disk
    #[arg(long = "device", value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// Only to the filesystem that holds this file or folder; may be repeated. Of a bind mount that is the whole filesystem,
    /// wherever else it is mounted
    #[arg(long = "mount", value_name = "PATH")]
    pub mounts: Vec<PathBuf>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Only print the facts of this kernel that decide, as JSON: for bug reports
    #[arg(long)]
    pub facts: bool,
    /// Print the diagnosis as a JSON document: for scripts and bug reports
    #[arg(long, conflicts_with = "facts")]
    pub json: bool,
    /// Only look, attach nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How the kernel is to be probed: auto, fentry, optimised or trap, as `prefault --help` says
    #[arg(long, value_enum, value_name = "HOW", default_value_t, hide_possible_values = true)]
    pub mechanism: Mechanism,
    /// Say how much memory it takes to count so many filesystems on their own
    #[arg(long, value_name = "N", default_value_t = prefault_ebpf::DEFAULT_SLOTS,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(prefault_ebpf::MAX_SLOTS)))]
    pub slots: u32,
}

/// Options of `selftest`.
#[derive(Debug, Args)]
#[command(after_help = "\
It writes at most 64 MiB to a temporary file in each folder, removes it, and counts only its own writes.

Exit codes:
  0  all counts are exact
  1  a count differs
  2  it could not run")]
pub struct SelftestArgs {
    /// Seed of the random writes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How the kernel is probed: auto, fentry, optimised or trap, as `prefault --help` says
    #[arg(long, value_enum, value_name = "HOW", default_value_t, hide_possible_values = true)]
    pub mechanism: Mechanism,
    /// Test the points that --no-latency uses, which are fewer
    #[arg(long)]
    pub no_latency: bool,
    /// Folders to write to; network mounts only if named [default: one on each local filesystem that can be written to]
    #[arg(value_name = "DIR")]
    pub folders: Vec<PathBuf>,
}

/// A number of seconds, with a fraction if need be: more than 0.01, at most a year.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it has to be a number of seconds, such as 10 or 0.5".to_owned())?;
    if (0.01..=31_536_000.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it has to be between 0.01 and 31536000 seconds".to_owned())
    }
}

/// A thread name, of any bytes: the kernel keeps 15.
fn comm(name: OsString) -> Result<OsString, String> {
    short_name(&name, 15, "the kernel cuts thread names off after 15 bytes; give those").map(|()| name)
}

/// A filesystem type: the programs keep 31 bytes, and no type comes near.
fn fstype(text: &str) -> Result<String, String> {
    short_name(text.as_ref(), 31, "no filesystem type has a name this long").map(|()| text.to_owned())
}

fn short_name(name: &OsStr, longest: usize, why: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("it must not be empty".to_owned()),
        length if length > longest => Err(why.to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_have_sensible_limits() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "x", "0", "-1", "1e9", "nan", "inf"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
