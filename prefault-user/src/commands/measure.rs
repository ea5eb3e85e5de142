//! `prefault`: measure until told to stop, with tables meanwhile and a report at the end.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use prefault_ebpf::{EVENT_RING_BYTES, Event};
use tokio::{
    io::unix::AsyncFd,
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval as Ticker, MissedTickBehavior, interval_at},
};

use super::{
    filters::filters,
    modules::ModuleWatch,
    output::{Output, is_closed_pipe},
    prepare,
};
use crate::{
    cli::MeasureArgs,
    data::{EventRecord, Filesystem, Interval, Report, Snapshot},
    output::{event, json, report, table},
    probe::{
        plan::Wish,
        session::{Options, Session},
    },
};

/// Interval of the tables if none is given.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Tables after which the heading is repeated.
const TABLES_PER_HEADER: u32 = 20;

/// The newest events, which the JSON document shows.
const EVENTS_KEPT: usize = 64;

/// Events that are taken in one go: about as many as the ring holds.
const EVENTS_AT_ONCE: u32 = EVENT_RING_BYTES / size_of::<Event>() as u32;

/// How often the programs' messages are passed on.
const LOG_INTERVAL: Duration = Duration::from_millis(200);

/// How often modules are looked at, so that one that is loaded is probed well within a second, and events.
const MODULE_INTERVAL: Duration = Duration::from_millis(250);

/// Where the kernel shows its modules.
const MODULES: &str = "/sys/module";

/// Measures as `args` say; the result is the exit code.
///
/// # Errors
/// If measuring cannot begin or the output cannot be written.
pub fn run(args: &MeasureArgs) -> Result<u8> {
    if args.verbose {
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
    prepare::check()?;
    // Before the facts are read: a module that comes in between is then found twice, not missed.
    let modules = ModuleWatch::begin(Path::new(MODULES)).with_context(|| format!("failed to read {MODULES}"))?;
    let options = Options {
        verbose: args.verbose,
        // Nothing else shows them.
        events: args.events || args.json,
        slots: args.slots,
        filters: filters(args)?,
        own_cost: args.own_cost,
    };
    let (kernel, plan) = prepare::plan(args.mechanism.into())?;
    let begun = Instant::now();
    let session = Session::start(plan, &options).map_err(prepare::explain)?;
    log::info!("loaded and attached in {:?}", begun.elapsed());
    let mut measurement = Measurement::begin(kernel, session, modules, args)?;
    measurement.greet();
    let follows_command = options.filters.follow && options.filters.processes.is_empty();
    let child = measurement.spawn(&args.command, follows_command)?;
    let outcome = measurement.follow(stop, child, &mut output).await;
    // Whatever ended it, what was counted is shown.
    let last = measurement.finish(&mut output, args.json);
    let exit_code = outcome?;
    last?;
    Ok(exit_code)
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
    kernel: String,
    session: Session,
    modules: ModuleWatch,
    path_names: Vec<String>,
    first: Snapshot,
    previous: Snapshot,
    ring: AsyncFd<RingBuf<MapData>>,
    events: VecDeque<EventRecord>,
    /// There may be more events in the ring than were taken.
    more_events: bool,
    /// Records of the ring that were no events.
    events_unread: u64,
    filesystems: Vec<(u32, Filesystem)>,
    logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    ticker: Option<Ticker>,
    layout: table::Layout,
    /// Tables printed so far.
    tables: u32,
    print_events: bool,
    /// How points of modules that come are made.
    wish: Wish,
}

impl Measurement {
    fn begin(kernel: String, mut session: Session, modules: ModuleWatch, args: &MeasureArgs) -> Result<Self> {
        // SAFETY: the ring's descriptor stays the same and open for as long as the ring lives.
        let ring = unsafe { AsyncFd::register(session.take_events()?) }.context("failed to wait for events")?;
        let logger = if args.verbose { session.logger()? } else { None };
        let first = session.snapshot(0)?;
        let wants_tables = args.interval.is_some() || (args.command.is_empty() && !args.json);
        let period = wants_tables.then(|| args.interval.unwrap_or(DEFAULT_INTERVAL));
        Ok(Self {
            kernel,
            modules,
            path_names: session.plan().path_names(),
            previous: first.clone(),
            first,
            ring,
            events: VecDeque::new(),
            more_events: false,
            events_unread: 0,
            filesystems: Vec::new(),
            logger,
            ticker: period.map(ticker),
            layout: table::Layout::new(table::Scale::PerSecond),
            tables: 0,
            print_events: args.events,
            wish: args.mechanism.into(),
            session,
        })
    }

    /// Tells a person who waits for the first table that it is on.
    fn greet(&self) {
        if self.ticker.is_some() && io::stderr().is_terminal() {
            let sites = self.session.plan().sites.iter().filter(|planned| planned.mechanism.is_ok()).count();
            eprintln!("prefault: measuring at {sites} call sites of {}; Ctrl-C ends it", self.kernel);
        }
    }

    /// Starts the command. If it is to be followed, this process is measured for the moment of the fork, so that the
    /// child is from its first instruction on.
    fn spawn(&mut self, command: &[OsString], follow: bool) -> Result<Option<Child>> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        let own = std::process::id();
        if follow {
            self.session.measure_process(own, true)?;
        }
        let child = Command::new(program).args(arguments).spawn();
        if follow {
            self.session.measure_process(own, false)?;
        }
        child.with_context(|| format!("failed to start {}", program.display())).map(Some)
    }

    /// Prints tables and takes events until something ends the measurement; the result is the exit code.
    async fn follow(&mut self, mut stop: Stop, mut child: Option<Child>, output: &mut Output) -> Result<u8> {
        let stopped = stop.wait(child.is_some());
        tokio::pin!(stopped);
        let mut log_ticker = ticker(LOG_INTERVAL);
        let mut module_ticker = ticker(MODULE_INTERVAL);
        loop {
            tokio::select! {
                ready = self.ring.readable_mut() => {
                    ready.context("failed to wait for events")?.clear_ready();
                    self.pass_on_events(output)?;
                }
                () = std::future::ready(()), if self.more_events => self.pass_on_events(output)?,
                () = tick(&mut self.ticker) => self.print_interval(output)?,
                _ = log_ticker.tick(), if self.logger.is_some() => self.pass_on_messages(),
                _ = module_ticker.tick() => {
                    self.follow_modules()?;
                    self.pass_on_events(output)?;
                }
                status = exited(&mut child) => return Ok(exit_code(status?)),
                () = &mut stopped => {
                    if let Some(child) = &mut child {
                        child.start_kill().context("failed to end the command")?;
                        child.wait().await.context("failed to wait for the command")?;
                    }
                    return Ok(0);
                }
            }
        }
    }

    /// Lets go of modules that are gone and probes those that came.
    fn follow_modules(&mut self) -> Result<()> {
        let changes = self.modules.look().with_context(|| format!("failed to read {MODULES}"))?;
        for module in &changes.unloaded {
            self.session.forget(module);
        }
        if !changes.loaded.is_empty() {
            self.session.extend(prepare::plan_for_modules(&changes.loaded, self.wish)?)?;
            self.path_names = self.session.plan().path_names();
        }
        Ok(())
    }

    fn print_interval(&mut self, output: &mut Output) -> Result<()> {
        let now = self.session.snapshot(self.events_unread)?;
        let interval = Interval::between(&self.previous, &now, &self.path_names)?;
        self.previous = now;
        let mut text = String::new();
        // At the begin, where a column had to grow, and once a screen.
        if self.layout.fit(&interval) || self.tables.is_multiple_of(TABLES_PER_HEADER) {
            text.push_str(&self.layout.header());
        }
        self.tables += 1;
        text.push_str(&self.layout.rows(&interval));
        if !interval.loss.is_empty() {
            text.push_str(&report::loss(&interval.loss));
        }
        text.push_str(&report::own_cost(&interval));
        output.write(&text)
    }

    fn pass_on_events(&mut self, output: &mut Output) -> Result<()> {
        let lines = self.take_events()?;
        output.write(&lines)
    }

    /// Takes events out of the ring, as many as it can hold, so that a flood does not keep the rest waiting; keeps the
    /// newest, and returns lines for all if they are to be printed.
    fn take_events(&mut self) -> Result<String> {
        let mut lines = String::new();
        self.more_events = false;
        let mut taken = 0;
        while let Some(raw) = next_event(self.ring.get_mut()) {
            let Some(raw) = raw else {
                self.events_unread += 1;
                continue;
            };
            let filesystem = self.filesystem(raw.slot)?;
            let Some(record) = EventRecord::new(&raw, filesystem.as_ref(), &self.path_names) else {
                self.events_unread += 1;
                continue;
            };
            if self.print_events {
                lines.push_str(&event::line(&record));
            }
            if self.events.len() == EVENTS_KEPT {
                self.events.pop_front();
            }
            self.events.push_back(record);
            taken += 1;
            if taken == EVENTS_AT_ONCE {
                self.more_events = true;
                break;
            }
        }
        Ok(lines)
    }

    /// What a slot stands for; slots are looked up once.
    fn filesystem(&mut self, slot: u32) -> Result<Option<Filesystem>> {
        let known = |filesystems: &[(u32, Filesystem)]| {
            filesystems.iter().find(|(known, _)| *known == slot).map(|(_, filesystem)| filesystem.clone())
        };
        if known(&self.filesystems).is_none() {
            self.filesystems = self.session.filesystems()?;
        }
        Ok(known(&self.filesystems))
    }

    fn pass_on_messages(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    fn finish(&mut self, output: &mut Output, as_json: bool) -> Result<()> {
        let lines = self.take_events()?;
        let last = self.session.snapshot(self.events_unread)?;
        output.write(&lines)?;
        self.pass_on_messages();
        let document = Report {
            kernel: self.kernel.clone(),
            interval: Interval::between(&self.first, &last, &self.path_names)?,
            sites: self.session.plan().site_reports(),
            events: self.events.drain(..).collect(),
        };
        if as_json { output.write(&json::document(&document)?) } else { output.write(&report::report(&document)) }
    }
}

/// The next record of the ring; the inner `None` is one that is too short for an event.
fn next_event(ring: &mut RingBuf<MapData>) -> Option<Option<Event>> {
    let item = ring.next()?;
    let bytes = item.first_chunk::<{ size_of::<Event>() }>();
    // SAFETY: an event is made of integers, valid for every pattern of bits.
    Some(bytes.map(|bytes| unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() }))
}

fn ticker(period: Duration) -> Ticker {
    let mut ticker = interval_at(tokio::time::Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticker
}

async fn tick(ticker: &mut Option<Ticker>) {
    match ticker {
        Some(ticker) => {
            ticker.tick().await;
        }
        None => std::future::pending().await,
    }
}

async fn exited(child: &mut Option<Child>) -> Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await.context("failed to wait for the command"),
        None => std::future::pending().await,
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128 + signal as u8,
        (None, None) => 1,
    }
}
