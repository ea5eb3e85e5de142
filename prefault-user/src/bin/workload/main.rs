//! Does writes and says what it did: the independent truth that the tool's counts are compared with. It knows nothing of
//! the tool.
//!
//! Prints a line of JSON for each target, in their order.

mod special;
mod uring;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum as _};
use prefault_user::workload::{self, Kind, Truth};

use self::special::Special;

/// Does writes and says what it did.
#[derive(Parser)]
struct Args {
    /// What to write, or how
    #[arg(value_parser = parse_work)]
    work: Work,
    /// How many writes to each target
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// How many threads write at once; targets are dealt out among them
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Repeat for so many seconds
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Decides everything that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directories, in which a file is made, or files and block devices
    #[arg(required = true)]
    targets: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Plain(Kind),
    Special(Special),
}

fn parse_work(text: &str) -> Result<Work, String> {
    let special = || Special::from_str(text, false).map(Work::Special);
    Kind::from_str(text, false).map(Work::Plain).or_else(|_| special()).map_err(|_| {
        let names = |values: Vec<Option<clap::builder::PossibleValue>>| {
            values.into_iter().flatten().map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ")
        };
        let plain = names(Kind::value_variants().iter().map(Kind::to_possible_value).collect());
        let special = names(Special::value_variants().iter().map(Special::to_possible_value).collect());
        format!("expected one of {plain}, {special}")
    })
}

/// What became of a target: a line of output.
#[derive(serde::Serialize)]
struct Outcome<'a> {
    target: &'a Path,
    #[serde(flatten)]
    truth: Truth,
    /// Why not everything could be written.
    failure: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = |target| Outcome { target, truth: Truth::default(), failure: None };
    let outcomes = Mutex::new(args.targets.iter().map(|target| outcome(target)).collect::<Vec<_>>());
    thread::scope(|scope| {
        for worker in 0..args.workers {
            let (args, outcomes) = (&args, &outcomes);
            scope.spawn(move || work(args, worker, outcomes));
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    for outcome in &outcomes {
        println!("{}", serde_json::json!(outcome));
    }
    ExitCode::from(u8::from(outcomes.iter().any(|outcome| outcome.failure.is_some())))
}

/// The part of one worker: every target at least once, in turns.
fn work(args: &Args, worker: usize, outcomes: &Mutex<Vec<Outcome<'_>>>) {
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let n_turns = args.targets.len().max(args.workers);
    for round in 0.. {
        for turn in (worker..n_turns).step_by(args.workers) {
            let number = turn % args.targets.len();
            let seed = args.seed + (round * n_turns + turn) as u64;
            let result = match args.work {
                Work::Plain(kind) => workload::write_all(kind, args.count, seed, &args.targets[number]),
                Work::Special(special) => special.write_all(args.count, seed, &args.targets[number]),
            };
            let outcome = &mut outcomes.lock().unwrap_or_else(PoisonError::into_inner)[number];
            match result {
                Ok(truth) => outcome.truth += truth,
                Err(error) => outcome.failure = Some(format!("{error:#} (seed {seed})")),
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
}
