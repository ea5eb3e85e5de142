//! The command line as typed; what it means is decided in `commands`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

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
  sudo prefault doctor               what can be measured on this kernel, and how

Exit codes:
  0  done (Ctrl-C, SIGTERM and a closed pipe included)
  1  `doctor`: the main job cannot run here
  2  an error, said in one line on standard error
  N  with COMMAND: its own exit code, or 128 plus the signal that ended it"
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
    /// Say what can be measured on this kernel, how, and what is missing
    Doctor(DoctorArgs),
}

/// Options of measuring.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Stop after this many seconds [default: when interrupted, or when COMMAND ends]
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Print a table every so many seconds [default: 5; with COMMAND or --json none]
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<Duration>,
    /// Print one JSON document at the end instead of text
    #[arg(long)]
    pub json: bool,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Also print each short copy and each failed prefault as it happens
    #[arg(long, conflicts_with = "json")]
    pub events: bool,
    /// Say on standard error what is being done, and pass on messages of the BPF programs
    #[arg(short, long)]
    pub verbose: bool,
    /// Measure while this command runs, and return its exit code
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Only print the facts of this kernel that decide, as JSON: for bug reports
    #[arg(long)]
    pub facts: bool,
    /// Only look, attach nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A number of seconds, with a fraction if need be: more than 0.01, at most a year.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it has to be a number of seconds, such as 10 or 0.5".to_owned())?;
    if (0.01..=31_536_000.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it has to be between 0.01 and 31536000 seconds".to_owned())
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
