//! `cargo xtask bench`: what measuring costs, in executed instructions per write, beside bpftrace, in one run of one guest
//! whose clock counts instructions.

pub mod profile;
mod table;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};

use self::table::Table;
use crate::{
    matrix::{
        filesystems::{self, Group},
        kernels,
    },
    paths,
    vm::{Machine, Outcome, Series, Streams},
};

const LIMIT: Duration = Duration::from_secs(900);
const SCRIPT: &str = include_str!("guest.sh");
const DIRECTORIES: [&str; 2] = ["tmpfs", "ext4"];

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// Measure on this kernel series; can be given more than once [default: 6.12 and 6.18].
    #[arg(long, value_name = "SERIES")]
    kernel: Vec<Series>,
    /// Write all figures to this file as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only 4 KiB to tmpfs, and no bpftrace.
    #[arg(long)]
    quick: bool,
    /// Follow one write of 4 KiB to tmpfs under the tool, instruction by instruction, and print where they are.
    #[arg(long, conflicts_with_all = ["json", "quick"])]
    profile: bool,
}

/// Measures and prints a table for each kernel.
///
/// # Errors
/// When a guest cannot be started or something in it fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    let series: Vec<String> = match args.kernel.as_slice() {
        [] => ["6.12", "6.18"].map(str::to_owned).to_vec(),
        typed => typed.iter().map(Series::to_string).collect(),
    };
    if args.profile {
        return profile::run(&series);
    }
    let mut tables = Vec::new();
    for series in series {
        eprintln!("bench: kernel {series}, every instruction counted: this takes minutes");
        let table = measure(&series, args.quick)?;
        println!("{table}");
        tables.push(table);
    }
    if let Some(file) = &args.json {
        paths::write(file, serde_json::to_string_pretty(&tables)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures on one kernel.
///
/// # Errors
/// When the guest cannot be started or something in it fails.
pub fn measure(series: &str, quick: bool) -> Result<Table> {
    let share = paths::target("bench").join(series);
    paths::remove_dir(&share)?;
    paths::create_dir(&share)?;
    paths::write(&share.join("bench.sh"), script(series, quick)?)?;
    let machine = Machine { share: Some(share), timeout: LIMIT, icount: true, ..Machine::new(series.parse()?) };
    let finished = machine.run(&["bash", "/share/bench.sh"].map(str::to_owned), Streams::Captured)?;
    let (said, errors) = (String::from_utf8_lossy(&finished.stdout), String::from_utf8_lossy(&finished.stderr));
    match finished.outcome {
        Outcome::Exited(0) if !errors.contains(" failed") => {
            Table::parse(&finished.release, &said).with_context(|| format!("got\n{said}\n{errors}"))
        }
        outcome => bail!("the guest did not finish: {outcome:?}\n{errors}"),
    }
}

fn script(series: &str, quick: bool) -> Result<String> {
    let version = kernels::Facts::of(series)?.version;
    let shown = filesystems::of(Group::Core, version).filter(|filesystem| DIRECTORIES.contains(&filesystem.name));
    let set_up: String = shown.map(|filesystem| filesystem.script(version)).collect();
    Ok(format!("set -e\n{set_up}set +e\nQUICK={}\n{SCRIPT}", u8::from(quick)))
}
