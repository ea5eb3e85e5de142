//! `prefault`: measure until told to stop, with a table or a document of each interval, and a report at the end.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    time::Interval as Ticker,
};

use crate::{
    cli::MeasureArgs,
    data::{EventRecord, Interval, Report, Snapshot, Timing},
    host::limits,
    monitor::{
        filters::filters,
        live::{Live, tick, ticker},
        options::options,
    },
    output::{
        event, json, limited, report,
        sink::{Output, is_closed_pipe},
        table,
    },
};

/// Interval of the tables if none is given.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Tables after which the heading is repeated.
const TABLES_PER_HEADER: u32 = 20;

/// Exit code of a measurement during which points were silenced.
const SILENCED: u8 = 3;

/// How long a command may take to end by itself once it was asked to.
const LONGEST_END: Duration = Duration::from_secs(5);

/// The newest events, which the JSON document shows.
const EVENTS_KEPT: usize = 64;

/// Measures as `args` say; the result is the exit code.
///
/// # Errors
/// If measuring cannot begin or the output cannot be written.
pub fn run(args: &MeasureArgs) -> Result<u8> {
    if args.counting.verbose {
        env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(measure(args)) {
        Err(error) if is_closed_pipe(&error) => Ok(0),
        result => result,
    }
}

async fn measure(args: &MeasureArgs) -> Result<u8> {
    let mut output = Output::open(args.output.as_deref())?;
    let stop = Stop::listen(args.duration)?;
    // From here on it does not end this process any more.
    let marks = signal(SignalKind::user_defined1()).context("failed to listen for SIGUSR1")?;
    // Nothing else shows single events.
    let filters = filters(&args.filters, !args.command.is_empty())?;
    let options = options(&args.counting, filters, args.events || args.json, 0);
    let mut measurement = Measurement::begin(Live::begin(&options)?, args)?;
    measurement.greet();
    let follows_command = options.filters.follow && options.filters.processes.is_empty();
    let mut child = measurement.spawn(&args.command, follows_command)?;
    let outcome = measurement.follow(stop, marks, &mut child, &mut output).await;
    if let (Err(_), Some(child)) = (&outcome, &mut child) {
        // As whatever else ends measuring does; that it failed is said by the outcome.
        let _unused = end(child).await;
    }
    // Whatever ended it, what was counted is shown.
    let last = measurement.finish(&mut output);
    let exit_code = outcome?;
    last?;
    // What a command says itself comes first.
    Ok(if exit_code == 0 && measurement.was_silenced { SILENCED } else { exit_code })
}

/// What ends a measurement from outside.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    duration: Option<Duration>,
}

impl Stop {
    fn listen(duration: Option<Duration>) -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        Ok(Self { interrupt, terminate, duration })
    }

    /// Waits for a signal or the end of the duration. With a child, an interrupt is for the child too, and its end is
    /// waited for.
    async fn wait(&mut self, with_child: bool) {
        let duration = self.duration;
        let over = async move {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => if !with_child { return },
            }
        }
    }
}

/// A measurement that is running.
struct Measurement {
    live: Live,
    first: Snapshot,
    /// The end of the interval before.
    previous: Snapshot,
    events: VecDeque<EventRecord>,
    ticker: Option<Ticker>,
    /// Intervals shown so far.
    intervals: u32,
    layout: table::Layout,
    as_json: bool,
    print_events: bool,
    timing: Timing,
    /// Points did not run for a time.
    was_silenced: bool,
}

impl Measurement {
    fn begin(live: Live, args: &MeasureArgs) -> Result<Self> {
        let first = live.snapshot();
        let wants_tables = args.interval.is_some() || (args.command.is_empty() && !args.json);
        let period = wants_tables.then(|| args.interval.unwrap_or(DEFAULT_INTERVAL));
        Ok(Self {
            previous: first.clone(),
            first,
            events: VecDeque::new(),
            ticker: period.map(ticker),
            intervals: 0,
            layout: table::Layout::new(table::Scale::PerSecond),
            as_json: args.json,
            print_events: args.events,
            timing: live.timing(),
            was_silenced: false,
            live,
        })
    }

    /// Tells a person who waits for the first table that it is on.
    fn greet(&self) {
        if self.ticker.is_some() && io::stderr().is_terminal() {
            let sites = self.live.plan().n_measured();
            eprintln!("prefault: measuring at {sites} call sites of {}; Ctrl-C ends it", self.live.kernel());
        }
    }

    /// Starts the command. If it is to be followed, this process is measured for the moment of the fork, so that the
    /// child is from its first instruction on.
    fn spawn(&mut self, command: &[OsString], follow: bool) -> Result<Option<Child>> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        let own = std::process::id();
        if follow {
            self.live.measure_process(own, true)?;
        }
        let mut command = Command::new(program);
        // SAFETY: setting limits is a system call alone, which may be made between fork and exec.
        let child = unsafe { command.args(arguments).pre_exec(limits::give_back) }.spawn();
        if follow {
            self.live.measure_process(own, false)?;
        }
        child.with_context(|| format!("failed to start {}", program.display())).map(Some)
    }

    /// Shows intervals and takes events until something ends the measurement; the result is the exit code.
    async fn follow(
        &mut self,
        mut stop: Stop,
        mut marks: Signal,
        child: &mut Option<Child>,
        output: &mut Output,
    ) -> Result<u8> {
        let stopped = stop.wait(child.is_some());
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                events = self.live.tend() => self.pass_on_events(events?, output)?,
                () = tick(&mut self.ticker) => self.end_interval(output)?,
                _ = marks.recv() => self.end_interval(output)?,
                status = exited(child) => return Ok(exit_code(status?)),
                () = &mut stopped => {
                    if let Some(child) = child {
                        end(child).await.context("failed to end the command")?;
                    }
                    return Ok(0);
                }
            }
        }
    }

    /// Shows what was counted since the interval before ended.
    fn end_interval(&mut self, output: &mut Output) -> Result<()> {
        let events = self.live.take_events();
        self.pass_on_events(events, output)?;
        let now = self.live.snapshot();
        let interval = Interval::between(&self.previous, &now, self.live.path_names())?;
        self.previous = now;
        let text = if self.as_json { json::line(&self.report(interval))? } else { self.table(&interval) };
        self.intervals += 1;
        output.write(&text)
    }

    fn table(&mut self, interval: &Interval) -> String {
        let mut text = String::new();
        // At the begin, where a column had to grow, and once a screen.
        if self.layout.fit(interval) || self.intervals.is_multiple_of(TABLES_PER_HEADER) {
            text.push_str(&self.layout.header());
        }
        text.push_str(&self.layout.rows(interval));
        if !interval.loss.is_empty() {
            text.push_str(&report::loss(&interval.loss, &self.live.plan().not_understood()));
        }
        text.push_str(&report::own_cost(interval));
        if let Some(limited) = self.live.limited() {
            text.push_str(&limited::line(&limited));
        }
        text
    }

    /// Keeps the newest events, and prints all if they are to be printed.
    fn pass_on_events(&mut self, events: Vec<EventRecord>, output: &mut Output) -> Result<()> {
        if self.print_events && !events.is_empty() {
            output.write(&events.iter().map(event::line).collect::<String>())?;
        }
        self.events.extend(events);
        let surplus = self.events.len().saturating_sub(EVENTS_KEPT);
        self.events.drain(..surplus);
        Ok(())
    }

    /// Shows all that was counted; of documents the last one, which is of what was counted since the one before.
    fn finish(&mut self, output: &mut Output) -> Result<()> {
        self.live.finish();
        let events = self.live.take_events();
        let last = self.live.snapshot();
        self.was_silenced = last.silenced.ever();
        self.pass_on_events(events, output)?;
        self.live.pass_on_messages();
        let since = if self.as_json { &self.previous } else { &self.first };
        let report = self.report(Interval::between(since, &last, self.live.path_names())?);
        output.write(&match self.as_json {
            false => report::report(&report),
            true if self.intervals == 0 && self.ticker.is_none() => json::document(&report)?,
            true => json::line(&report)?,
        })
    }

    /// What was counted in `interval`, with its surroundings.
    fn report(&mut self, interval: Interval) -> Report {
        Report {
            kernel: self.live.kernel().to_owned(),
            interval,
            timing: self.timing,
            limited: self.live.limited(),
            floor: self.live.floor(),
            sites: self.live.site_reports(),
            events: self.events.drain(..).collect(),
        }
    }
}

async fn exited(child: &mut Option<Child>) -> Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await.context("failed to wait for the command"),
        None => std::future::pending().await,
    }
}

/// Asks a command to end, and makes it if it does not.
async fn end(child: &mut Child) -> io::Result<()> {
    if let Some(process) = child.id() {
        // SAFETY: the call takes numbers; the process is a child that has not been waited for.
        unsafe { libc::kill(process as libc::pid_t, libc::SIGTERM) };
    }
    if tokio::time::timeout(LONGEST_END, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128 + signal as u8,
        (None, None) => 1,
    }
}
