//! `cargo xtask vm`: the command line of the laboratory. Standard output, standard error and the exit code are those of the
//! command in the guest; what the host has to say goes to standard error.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Machine, Outcome, Series, Streams};

/// As in timeout(1).
const TIMED_OUT: u8 = 124;
/// As in timeout(1) for a failure that is not the command's.
const NO_VERDICT: u8 = 125;

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// Kernel series, with a flavour if wanted: 6.1, 6.12, 6.12-cloud, 6.1-rt. The release that prefault-lab/kernels.txt has for
    /// it, or the newest one of Debian, is fetched once and kept below target/vm/kernels.
    #[arg(long, value_name = "SERIES")]
    kernel: Series,
    /// Directory the guest sees, writable, as /share.
    #[arg(long, value_name = "DIR")]
    share: Option<PathBuf>,
    /// One processor whose clock advances by one nanosecond per instruction.
    #[arg(long)]
    icount: bool,
    /// Wall-clock limit for the whole guest, in seconds; then the exit code is 124.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Number of processors.
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "icount")]
    cpus: u32,
    /// Memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Further words for the kernel's command line.
    #[arg(long, value_name = "KERNEL ARGS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Processor model, as QEMU names it.
    #[arg(long, value_name = "MODEL", default_value = "max")]
    cpu: String,
    /// Take target/dist/prefault as it is instead of building it.
    #[arg(long)]
    pub no_build: bool,
    /// Print the kernel and the times of boot and run to standard error.
    #[arg(long, short)]
    verbose: bool,
    /// The command and its arguments, passed on exactly; the tool is on its path as prefault.
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,
}

/// Runs the guest and passes its exit code on.
///
/// # Errors
/// When the guest cannot be started.
pub fn run(args: &Args) -> Result<ExitCode> {
    let finished = machine(args)?.run(&args.command, Streams::Through)?;
    if args.verbose {
        let boot = finished.boot.map_or("never".to_owned(), |boot| format!("after {:.1} s", boot.as_secs_f64()));
        let elapsed = finished.elapsed.as_secs_f64();
        eprintln!("vm: {}: command started {boot}, guest ended after {elapsed:.1} s", finished.release);
    }
    let console = finished.console.display();
    let code = match finished.outcome {
        Outcome::Exited(code) => code,
        Outcome::TimedOut => {
            eprintln!("error: guest did not finish within {} s (console: {console})", args.timeout);
            TIMED_OUT
        }
        Outcome::Panicked(tail) | Outcome::StaleBreakpoint(tail) => {
            eprintln!("{tail}\nerror: the guest's kernel panicked (console: {console})");
            NO_VERDICT
        }
        Outcome::EmulatorFailed(tail) => {
            eprintln!("{tail}\nerror: QEMU failed each time before the guest was up (console: {console})");
            NO_VERDICT
        }
        Outcome::NoVerdict { started, console: tail } => {
            let what = if started { "before the command did" } else { "without starting the command" };
            eprintln!("{tail}\nerror: the guest ended {what} (console: {console})");
            NO_VERDICT
        }
    };
    Ok(ExitCode::from(code))
}

fn machine(args: &Args) -> Result<Machine> {
    let share = args.share.as_ref().map(|share| {
        let path = share.canonicalize().with_context(|| format!("failed to share {}", share.display()))?;
        ensure!(path.is_dir(), "failed to share {}: not a directory", share.display());
        Ok(path)
    });
    Ok(Machine {
        share: share.transpose()?,
        icount: args.icount,
        cpus: args.cpus,
        memory_mib: args.memory,
        append: args.append.clone(),
        cpu: args.cpu.clone(),
        timeout: Duration::from_secs(args.timeout),
        ..Machine::new(args.kernel.clone())
    })
}
