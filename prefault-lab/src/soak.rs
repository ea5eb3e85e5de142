//! `cargo xtask soak`: the exporter for half an hour, scraped each second, under load and while modules, mounts and its own
//! process come, go and stop. Counts have to be exact, memory flat, and no scrape missed.

use std::{
    process::ExitCode,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    cases::{
        PRELUDE,
        export::{losses, only_growing, sum},
        truths,
    },
    guest::{Guest, Judge, Said, Step},
    matrix::{
        filesystems::{self, Group},
        kernels::Facts,
    },
    report::{Report, say},
};
use crate::vm::{Machine, Series};

const SCRIPT: &str = include_str!("soak.sh");
/// For the last round and what follows it.
const MARGIN: Duration = Duration::from_secs(300);
/// What memory may grow by, of what it was in the first tenth of the rounds.
const GROWTH: f64 = 0.05;
/// Or in so many, if a tenth is less.
const FIRST_ROUNDS: usize = 5;
/// A scrape that is asked for while the process is stopped waits for it to go on, up to 3 s.
const SLOWEST_SECONDS: f64 = 8.0;

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// On this kernel series
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: Series,
    /// For so many minutes
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
}

/// Runs it; the exit code is 1 if something was wrong.
///
/// # Errors
/// When the guest cannot be started.
pub fn run(args: &Args) -> Result<ExitCode> {
    let version = Facts::of(&args.kernel.to_string())?.version;
    let check = |name: &str, judge: fn(&Said) -> Result<()>| (format!("soak {name}"), Box::new(judge) as Judge);
    let step = Step {
        slug: "soak".to_owned(),
        script: format!("{PRELUDE}MINUTES={}\n{SCRIPT}", args.minutes),
        limit: Duration::from_secs(60 * args.minutes) + MARGIN,
        checks: vec![
            check("no scrape missed", no_scrape_missed),
            check("counters only grow", growing),
            check("counts", exact),
            check("memory", flat),
        ],
    };
    let guest = Guest {
        machine: Machine::new(args.kernel.clone()),
        name: format!("{} soak", args.kernel),
        filesystems: filesystems::scripts(Group::Core, version),
        steps: vec![step],
        companion: None,
    };
    let report = Mutex::new(Report::new(Vec::new()));
    // There is one step, which begins at once.
    let deadline = Instant::now() + guest.limit();
    guest.run(deadline, &report)?;
    Ok(report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).finish())
}

fn no_scrape_missed(said: &Said) -> Result<()> {
    said.expect_code(0)?;
    let rounds = said.file("rounds")?.lines().count();
    let seconds: Vec<f64> = said.file("answered")?.lines().map(str::parse).collect::<Result<_, _>>()?;
    let slowest = seconds.iter().copied().fold(0.0, f64::max);
    say(&format!("         {rounds} rounds, {} scrapes, the slowest took {slowest:.1} s", seconds.len()));
    ensure!(said.file("failures").is_err(), "{} scrapes failed", said.file("failures")?.lines().count());
    ensure!(rounds > 1 && seconds.len() > 10, "{rounds} rounds, {} scrapes", seconds.len());
    ensure!(slowest < SLOWEST_SECONDS, "a scrape took {slowest:.1} s");
    Ok(())
}

fn growing(said: &Said) -> Result<()> {
    only_growing(&said.file("scrapes")?, "prefault_writes_total").map(drop)
}

/// The sums of what the workloads did to each mount are the last counters of its filesystem type.
fn exact(said: &Said) -> Result<()> {
    let (last, truths) = (said.file("last")?, truths(said)?);
    for fstype in ["ext4", "xfs", "btrfs", "f2fs", "ramfs"] {
        let mount = if fstype == "ramfs" { "/mnt/other".to_owned() } else { format!("/mnt/{fstype}") };
        let of_mount: Vec<_> = truths.iter().filter(|truth| truth.target.starts_with(&mount)).collect();
        let did = of_mount.iter().fold([0; 3], |[writes, bytes, absent], truth| {
            [writes + truth.writes, bytes + truth.bytes, absent + truth.absent_pages]
        });
        let counted = ["prefault_writes_total", "prefault_write_bytes_total", "prefault_prefault_page_faults_total"]
            .map(|metric| sum(&last, metric, fstype));
        ensure!(did[0] > 0 && counted == did, "{fstype}: counted {counted:?}, expected {did:?}");
    }
    let losses: Vec<&str> = losses(&last).collect();
    ensure!(losses.is_empty(), "{}", losses.join("\n"));
    Ok(())
}

/// A module that is probed takes memory for a moment, and a round may end in that moment or not: the peaks are compared.
fn flat(said: &Said) -> Result<()> {
    let memory: Vec<f64> = said.file("memory")?.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(memory.len() > FIRST_ROUNDS, "memory was measured in {} rounds", memory.len());
    let most = |rounds: &[f64]| rounds.iter().copied().fold(0.0, f64::max);
    let first = memory.len().div_ceil(10).max(FIRST_ROUNDS);
    let (begun, after) = (most(&memory[..first]), most(&memory[first..]));
    say(&format!("         resident: {begun} KiB at most in the first {first} rounds, {after} KiB after them"));
    ensure!(after <= begun * (1.0 + GROWTH), "memory grew from {begun} to {after} KiB");
    Ok(())
}
