//! The part of `cargo xtask test` that is in guests: which there are, with which steps, several at the same time.

use std::{
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    cases, counted, export,
    guest::{self, Guest, Step},
    matrix::{
        self,
        filesystems::{self, Group},
        kernels::{self, KERNELS},
        run::{Boot, Context},
    },
    report::{Report, lock},
    vm::{self, Machine, Series, Unavailable},
};

/// What was typed.
#[derive(clap::Args)]
pub struct Args {
    /// Test on this kernel series only; can be given more than once [default: those the matrix tests by default].
    #[arg(long, value_name = "SERIES", conflicts_with = "all_kernels")]
    kernel: Vec<Series>,
    /// Test on every kernel of the matrix.
    #[arg(long)]
    all_kernels: bool,
    /// Run only cases whose name contains this; can be given more than once.
    #[arg(long, value_name = "SUBSTRING")]
    only: Vec<String>,
    /// Write the golden files instead of comparing with them.
    #[arg(long)]
    update_golden: bool,
    /// Guests at the same time [default: two per processor, since they mostly wait, and at most 4].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Begin with no further guest and no further step of one after so many minutes: what a slow machine has no time for is
    /// listed as not run.
    #[arg(long, value_name = "N", default_value_t = 45)]
    minutes: u64,
}

/// Steps of one guest. A boot takes as long as one or two of them.
const MOST_STEPS: usize = 30;

/// Each guest takes up to 2 GiB of memory, those with many filesystems 4.
const MOST_JOBS: usize = 4;

impl Args {
    /// The kernel series to test on.
    ///
    /// # Errors
    /// When one of them is none whose version is known.
    pub fn kernels(&self) -> Result<Vec<String>> {
        let kernels: Vec<String> = if self.kernel.is_empty() {
            let is_wanted = |kernel: &&kernels::Kernel| self.all_kernels || kernel.by_default;
            KERNELS.iter().filter(is_wanted).map(|kernel| kernel.series.to_owned()).collect()
        } else {
            self.kernel.iter().map(Series::to_string).collect()
        };
        for series in &kernels {
            kernels::Facts::of(series)?;
        }
        Ok(kernels)
    }

    /// An empty report on the cases that were asked for.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(self.only.clone())
    }
}

/// Runs all cases in guests that were asked for, with what is in [`crate::paths::dist`], and adds them to the report. The time
/// that was asked for began at `start`. What goes wrong is a failed case.
#[must_use]
pub fn run(args: &Args, kernels: &[String], start: Instant, mut report: Report) -> Report {
    let mut guests = Vec::new();
    for series in kernels {
        match guests_of(series, args.update_golden, &report) {
            Ok(more) => guests.extend(more),
            Err(error) => report.fail(&format!("{series} guests"), 1, &error),
        }
    }
    run_guests(args, guests, start, report)
}

fn run_guests(args: &Args, mut guests: Vec<Guest>, start: Instant, report: Report) -> Report {
    // The longest one last would be waited for alone. Those that something runs beside are short, and like no others.
    guests.sort_by_key(|guest| (guest.companion.is_some(), guest.machine.append.is_empty(), guest.limit()));
    let deadline = start + Duration::from_secs(60 * args.minutes);
    let report = Mutex::new(report);
    let guests = Mutex::new(guests);
    let jobs = thread::available_parallelism().map_or(1, |n| 2 * n.get()).min(MOST_JOBS);
    thread::scope(|scope| {
        for _ in 0..args.jobs.map_or(jobs, NonZero::get) {
            scope.spawn(|| {
                while let Some(guest) = next(&guests) {
                    if Instant::now() < deadline {
                        run_guest(guest, deadline, &report);
                    } else {
                        leave_out(&guest, args.minutes, &mut lock(&report));
                    }
                }
            });
        }
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn leave_out(guest: &Guest, minutes: u64, report: &mut Report) {
    let n_cases: usize = guest.steps.iter().map(|step| step.checks.len()).sum();
    let why = format!("its {n_cases} cases would have begun after {minutes} minutes (--minutes)");
    report.skip(&format!("{} guest", guest.name), &why);
}

fn next(guests: &Mutex<Vec<Guest>>) -> Option<Guest> {
    guests.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn run_guest(guest: Guest, deadline: Instant, report: &Mutex<Report>) {
    let name = guest.name.clone();
    let prepared = vm::kernels::prepare(&guest.machine.kernel).map(drop);
    let Err(error) = prepared.and_then(|()| guest.run(deadline, report)) else { return };
    let mut report = lock(report);
    match error.downcast_ref::<Unavailable>() {
        Some(unavailable) => report.skip(&format!("{name} guest"), &unavailable.to_string()),
        None => report.fail(&format!("{name} guest"), 1, &error),
    }
}

/// One guest for each way of booting and each group of filesystems for which there are cases.
fn guests_of(series: &str, update_golden: bool, report: &Report) -> Result<Vec<Guest>> {
    let context = Context { series: series.to_owned(), kernel: kernels::Facts::of(series)?, update_golden };
    let kernel: Series = series.parse()?;
    let mut guests = Vec::new();
    for boot in Boot::ALL.into_iter().filter(|boot| boot.is_for(series, context.kernel.version)) {
        for group in boot.groups() {
            let mut steps = Vec::from_iter(matrix::step(&context, boot, *group, |name| report.wants(name)));
            steps.extend(cases::steps(&context, boot, *group));
            steps.retain(|step| step.checks.iter().any(|(name, _)| report.wants(name)));
            let name = guest_name(series, boot, *group);
            for (part, mut steps) in parts(steps).into_iter().enumerate() {
                let name = if part == 0 { name.clone() } else { format!("{name} part {}", part + 1) };
                steps.push(kernel_log(&name));
                let memory_mib = group.memory_mib();
                let (append, cpu) = (boot.append().to_owned(), boot.cpu().to_owned());
                let icount = boot == Boot::Counted;
                let machine = Machine { append, cpu, memory_mib, icount, ..Machine::new(kernel.clone()) };
                let filesystems = filesystems::scripts(*group, context.kernel.version);
                guests.push(Guest { machine, name, filesystems, steps, companion: None });
            }
        }
    }
    guests.extend(counted::guest(series, report)?);
    guests.extend(export::guest(series, context.kernel.version, report)?);
    Ok(guests)
}

/// Cuts what would be done one after the other into parts of about [`MOST_STEPS`], so that guests take about as long.
fn parts(mut steps: Vec<Step>) -> Vec<Vec<Step>> {
    let n_parts = steps.len().div_ceil(MOST_STEPS);
    let mut parts = Vec::new();
    while !steps.is_empty() {
        let rest = steps.split_off(steps.len().div_ceil(n_parts - parts.len()));
        parts.push(std::mem::replace(&mut steps, rest));
    }
    parts
}

fn guest_name(series: &str, boot: Boot, group: Group) -> String {
    [series, boot.name(), group.name()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

const KERNEL_LOG: &str = "kernel-log";

/// Whatever the cases did must not have made the kernel complain.
fn kernel_log(guest: &str) -> Step {
    let name = format!("{guest} kernel log has no complaint");
    let judge: guest::Judge = Box::new(|said| {
        said.expect_code(0)?;
        let is_complaint =
            |line: &&str| ["BUG:", "WARNING:", "Oops", "Call Trace"].iter().any(|word| line.contains(word));
        let complaints: Vec<&str> = said.stdout.lines().filter(is_complaint).collect();
        ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
        Ok(())
    });
    Step {
        slug: KERNEL_LOG.to_owned(),
        script: "dmesg\n".to_owned(),
        // The clock of a guest that counts instructions runs ahead while it waits for the host.
        limit: Duration::from_secs(300),
        checks: vec![(name, judge)],
    }
}
