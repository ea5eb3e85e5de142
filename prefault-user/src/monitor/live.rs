//! A session that runs, with what has to be done beside it: modules are followed, events taken, messages passed on.
//!
//! Shared by every command that measures for a while; what is shown, and when, is theirs.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use prefault_ebpf::{EVENT_RING_BYTES, Event};
use tokio::time::{Interval as Ticker, MissedTickBehavior, interval_at};

use super::{
    prepare,
    sight::{Remarks, SightWatch},
};
use crate::{
    bpf::{
        counters::Counters,
        rings::Ring,
        session::{Messages, Options, Session},
    },
    data::{EventRecord, Filesystem, Floor, Limit, OverheadReport, SiteReport, Snapshot, Timing},
    host::modules::{Changes, ModuleWatch},
    output::{sink::say, units},
    overhead::Windows,
    phases::Phases,
    plan::{MechanismChoice, Plan},
};

/// Events that are taken in one go: about as many as the ring holds.
const EVENTS_AT_ONCE: usize = EVENT_RING_BYTES as usize / size_of::<Event>();

/// How often the programs' messages are passed on.
const LOG_INTERVAL: Duration = Duration::from_millis(200);

/// How often events are taken that woke nobody.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);

/// How often modules are looked at. The kernel says which are loaded; that one is gone is not urgent.
const MODULE_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause after modules could not be probed.
const LONGEST_MODULE_INTERVAL: Duration = Duration::from_secs(300);

/// Where the kernel shows its modules.
const MODULES: &str = "/sys/module";

/// A session and what follows it.
pub struct Live {
    kernel: String,
    session: Session,
    modules: ModuleWatch,
    /// Where the kernel says that a module is loaded, if it does.
    announcements: Option<Ring>,
    /// How points in modules that come are made.
    wish: MechanismChoice,
    timing: Timing,
    path_names: Vec<String>,
    ring: Ring,
    /// There may be more events in the ring than were taken.
    more_events: bool,
    /// Records of the ring that were no events.
    events_unread: u64,
    filesystems: Vec<(u32, Filesystem)>,
    logger: Option<Messages>,
    log_ticker: Ticker,
    event_ticker: Option<Ticker>,
    module_ticker: Ticker,
    /// The plan has changed since somebody asked.
    plan_has_changed: bool,
    /// Keeps to a limit, if there is one.
    windows: Option<Windows>,
    sight: SightWatch,
    remarks: Remarks,
}

impl Live {
    /// Reads the facts of the running kernel, plans, loads and attaches. It has to be called within a tokio runtime.
    ///
    /// # Errors
    /// What stands in the way, with a remedy.
    pub fn begin(options: &Options) -> Result<Self> {
        prepare::check()?;
        if let Some(step_ns) = options.timing.coarse_step_ns() {
            say(&format!(
                "nothing is timed: this machine's clock advances in steps of {}",
                units::duration(step_ns as f64)
            ));
        }
        // Before the facts are read: a module that comes in between is then found twice, not missed.
        let modules = ModuleWatch::begin(Path::new(MODULES)).with_context(|| format!("failed to read {MODULES}"))?;
        let phases = Phases::begin();
        let (kernel, plan, groundwork) = prepare::plan_and_groundwork(options.wish, &phases)?;
        let mut session = Session::start(plan, groundwork, options, &phases).map_err(prepare::explain)?;
        log::info!("loaded and attached:\n{phases}");
        let ring = session.take_events()?;
        let announcements = session.take_announcements()?;
        let logger = if options.verbose { session.logger()? } else { None };
        let sight = SightWatch::begin(session.counters().sight())?;
        let windows = options
            .limit_percent
            .map(|percent| Windows::begin(limit(percent), options.timing.one_in().is_some(), &session));
        let mut live = Self {
            windows,
            kernel,
            modules,
            announcements,
            wish: options.wish,
            timing: options.timing,
            path_names: session.plan().path_names(),
            ring,
            more_events: false,
            events_unread: 0,
            filesystems: Vec::new(),
            logger,
            log_ticker: ticker(LOG_INTERVAL),
            event_ticker: options.events.then(|| ticker(EVENT_INTERVAL)),
            module_ticker: ticker(MODULE_INTERVAL),
            plan_has_changed: false,
            sight,
            remarks: Remarks::default(),
            session,
        };
        live.remarks.tell(live.session.plan());
        // What came before modules were announced.
        let changes = live.modules.look();
        live.follow_modules(changes)?;
        Ok(live)
    }

    /// Release of the running kernel.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Functions of the write paths, by number.
    pub fn path_names(&self) -> &[String] {
        &self.path_names
    }

    /// What the points themselves add to latencies, if that was measured.
    pub fn floor(&self) -> Option<Floor> {
        self.session.floor()
    }

    /// Which writes are timed.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// What became of every site.
    pub fn site_reports(&self) -> Vec<SiteReport> {
        self.session.site_reports()
    }

    /// What is attached where.
    pub fn plan(&self) -> &Plan {
        self.session.plan()
    }

    /// Whether modules have come or gone, or points were refused, since this was asked last.
    pub fn plan_has_changed(&mut self) -> bool {
        std::mem::take(&mut self.plan_has_changed)
    }

    /// What is counted, to be read while the session is tended.
    pub fn counters(&self) -> &Arc<Counters> {
        self.session.counters()
    }

    /// Records of the ring that were no events.
    pub fn events_unread(&self) -> u64 {
        self.events_unread
    }

    /// Measures `process` from now on, or no longer; for sessions that follow processes.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn measure_process(&mut self, process: u32, measure: bool) -> Result<()> {
        self.session.measure_process(process, measure)
    }

    /// Reads all counters.
    pub fn snapshot(&self) -> Snapshot {
        self.session.snapshot(self.events_unread)
    }

    /// What came of the limit to the cost so far, if there is one.
    pub fn limited(&self) -> Option<OverheadReport> {
        Some(self.windows.as_ref()?.report())
    }

    /// Ends counting, if there is a limit, so that what was counted is whole.
    pub fn finish(&mut self) {
        if let Some(windows) = &mut self.windows {
            windows.finish(&mut self.session);
        }
    }

    /// Waits until something is due and does it; the result are the events that were taken. What is begun is never left
    /// half done: the future may be dropped at any time.
    ///
    /// # Errors
    /// If modules cannot be followed, or points not be brought back.
    pub async fn tend(&mut self) -> Result<Vec<EventRecord>> {
        tokio::select! {
            ready = self.ring.ready() => {
                ready.context("failed to wait for events")?;
                Ok(self.take_events())
            }
            () = std::future::ready(()), if self.more_events => Ok(self.take_events()),
            _ = self.log_ticker.tick(), if self.logger.is_some() => {
                self.pass_on_messages();
                Ok(Vec::new())
            }
            () = due(self.windows.as_ref()) => {
                if let Some(windows) = &mut self.windows {
                    let n_measured = self.session.plan().n_measured();
                    windows.advance(&mut self.session)?;
                    // What was taken away the kernel may refuse when it is to come back.
                    self.plan_has_changed |= self.session.plan().n_measured() != n_measured;
                }
                Ok(Vec::new())
            }
            () = tick(&mut self.event_ticker) => Ok(self.take_events()),
            () = self.sight.due() => {
                self.plan_has_changed |= self.sight.look(&mut self.session)?;
                Ok(Vec::new())
            }
            announced = announced(&mut self.announcements) => {
                announced.context("failed to wait for modules")?;
                let changes = self.modules.look();
                self.follow_modules(changes)?;
                Ok(Vec::new())
            }
            _ = self.module_ticker.tick() => {
                let changes = if self.announcements.is_some() { self.modules.glance() } else { self.modules.look() };
                self.follow_modules(changes)?;
                Ok(Vec::new())
            }
        }
    }

    /// Lets go of modules that are gone and probes those that came.
    fn follow_modules(&mut self, changes: io::Result<Changes>) -> Result<()> {
        let changes = changes.with_context(|| format!("failed to read {MODULES}"))?;
        self.plan_has_changed |= changes != Changes::default();
        for module in &changes.unloaded {
            self.session.forget(module);
        }
        if !changes.loaded.is_empty()
            && let Err(error) = self.extend(&changes.loaded)
        {
            self.try_again(&changes.loaded);
            return Err(error);
        }
        self.look_at_modules_each(MODULE_INTERVAL);
        Ok(())
    }

    /// Has `modules` be seen anew after a while, since probing them failed: after a longer one each time that it does.
    fn try_again(&mut self, modules: &[String]) {
        for module in modules {
            self.session.forget(module);
        }
        self.modules.see_anew(modules);
        self.look_at_modules_each((2 * self.module_ticker.period()).min(LONGEST_MODULE_INTERVAL));
    }

    fn look_at_modules_each(&mut self, interval: Duration) {
        if interval != self.module_ticker.period() {
            self.module_ticker = ticker(interval);
        }
    }

    fn extend(&mut self, modules: &[String]) -> Result<()> {
        let begun = Instant::now();
        let too_few = self.session.extend(modules, prepare::plan_for_modules(modules, self.wish)?)?;
        self.path_names = self.session.plan().path_names();
        let names = modules.join(", ");
        match too_few {
            Some(too_few) => {
                let are = if modules.len() == 1 { "is" } else { "are" };
                say(&format!("{names} {are} not measured: {too_few}"));
            }
            None => log::info!("probed {names} in {} ms", begun.elapsed().as_millis()),
        }
        self.remarks.tell(self.session.plan());
        Ok(())
    }

    /// Takes events out of the ring, at most as many as it can hold, so that a flood does not keep the rest waiting.
    pub fn take_events(&mut self) -> Vec<EventRecord> {
        let mut events = Vec::new();
        self.more_events = false;
        while let Some(raw) = self.ring.next_event() {
            let Some(raw) = raw else {
                self.events_unread += 1;
                continue;
            };
            let filesystem = self.filesystem(raw.slot);
            let Some(record) = EventRecord::new(&raw, filesystem.as_ref(), &self.path_names) else {
                self.events_unread += 1;
                continue;
            };
            events.push(record);
            if events.len() == EVENTS_AT_ONCE {
                self.more_events = true;
                break;
            }
        }
        events
    }

    /// What a slot stands for; slots are looked up once.
    fn filesystem(&mut self, slot: u32) -> Option<Filesystem> {
        let known = |filesystems: &[(u32, Filesystem)]| {
            filesystems.iter().find(|(known, _)| *known == slot).map(|(_, filesystem)| filesystem.clone())
        };
        if known(&self.filesystems).is_none() {
            self.filesystems = self.session.counters().filesystems();
        }
        known(&self.filesystems)
    }

    /// Passes on what the programs say.
    pub fn pass_on_messages(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

/// Waits until a module is loaded; for ever if the kernel does not say so.
async fn announced(announcements: &mut Option<Ring>) -> io::Result<()> {
    let Some(announcements) = announcements else { return std::future::pending().await };
    announcements.ready().await?;
    announcements.clear();
    Ok(())
}

/// Waits until a window is to be looked at; for ever if there are none.
async fn due(windows: Option<&Windows>) {
    match windows {
        Some(windows) => tokio::time::sleep_until(windows.due().into()).await,
        None => std::future::pending().await,
    }
}

fn limit(percent: f64) -> Limit {
    // SAFETY: the call takes a number.
    let n_processors = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    Limit { percent, n_processors: n_processors.max(1) as u32 }
}

/// Ticks each `period` from one period on; ticks that were missed are left out.
pub fn ticker(period: Duration) -> Ticker {
    let mut ticker = interval_at(tokio::time::Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticker
}

/// Waits for the next tick; for ever if there is no ticker.
pub async fn tick(ticker: &mut Option<Ticker>) {
    match ticker {
        Some(ticker) => {
            ticker.tick().await;
        }
        None => std::future::pending().await,
    }
}
