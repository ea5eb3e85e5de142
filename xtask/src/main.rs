//! Command line of the task runner: parses, dispatches and turns the outcome into an exit code. No task lives here.

mod bless;
mod checks;
mod dist;
mod monitoring;
mod notices;
mod package;
mod page;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use prefault_lab::{bench, demo, soak, suite, vm};

/// Tasks of the prefault workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
enum Task {
    /// Install what building and testing need and this machine lacks.
    Setup,
    /// Build the tool as one static executable, target/dist/prefault.
    Dist,
    /// Run a command in a virtual machine under a stock Debian kernel.
    Vm(vm::cli::Args),
    /// Run every check there is, on this machine and in virtual machines.
    Test(suite::Args),
    /// Count the instructions that measuring adds to a write, beside bpftrace.
    Bench(bench::Args),
    /// Run the exporter for half an hour while everything around it comes and goes.
    Soak(soak::Args),
    /// Show what the tool measures: four filesystems, resident and non-resident buffers.
    Demo,
    /// Write anew what tests compare with: golden files, tables of documents, the dashboard.
    Bless,
    /// Write the Grafana dashboard, packaging/grafana/prefault.json.
    Dashboard,
    /// Pin the kernels of the tests, prefault-lab/kernels.txt, to the newest ones of Debian's archive.
    Kernels,
    /// Make target/packages/*.deb and *.rpm.
    Package,
    /// Take pictures of the exporter's start page.
    Page,
}

/// As in ripgrep, 2 is an error of the task itself; everything else belongs to what the task ran.
const ERROR: u8 = 2;

/// Builds what guests are to have, which the laboratory takes as it is.
fn built(task: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    dist::run()?;
    task()
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Task::Dist => dist::run().map(|_| ExitCode::SUCCESS),
        Task::Vm(args) if args.no_build => setup::run().and_then(|()| vm::cli::run(&args)),
        Task::Vm(args) => built(|| vm::cli::run(&args)),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => built(|| bench::run(&args)),
        Task::Soak(args) => built(|| soak::run(&args)),
        Task::Demo => built(demo::run),
        Task::Package => package::run().map(|packages| {
            println!("{}\n{}", packages.deb.display(), packages.rpm.display());
            ExitCode::SUCCESS
        }),
        Task::Bless => bless::run().map(|()| ExitCode::SUCCESS),
        Task::Dashboard => monitoring::write_dashboard().map(|()| ExitCode::SUCCESS),
        Task::Kernels => vm::pins::move_all().map(|()| ExitCode::SUCCESS),
        Task::Page => page::run().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(ERROR)
    })
}
