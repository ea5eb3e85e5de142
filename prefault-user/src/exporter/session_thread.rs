//! The session on a thread of its own, so that nobody who asks waits while modules are probed, which takes seconds.
//!
//! The counters are read past it; what else is to be known of it, it leaves here.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use tokio::{runtime::Runtime, sync::oneshot, time::sleep};

use super::log_once::LogOnce;
use crate::{
    bpf::counters::Counters,
    data::{EventRecord, Floor, OverheadReport, SiteCount, SiteMechanism, Snapshot, Timing},
    host::limits::why_no_thread,
    monitor::live::Live,
    plan::{Plan, Refusal},
    sites::{NoPath, Operation},
};

/// After something has gone wrong.
const PAUSE: Duration = Duration::from_millis(50);

/// A session that is tended.
pub struct SessionThread {
    /// Release of the running kernel.
    pub kernel: String,
    /// What the points themselves add to latencies, if that was measured.
    pub floor: Option<Floor>,
    /// Which writes are timed.
    pub timing: Timing,
    counters: Arc<Counters>,
    known: Arc<Mutex<SessionStatus>>,
    ended: oneshot::Receiver<()>,
}

/// What is known of a session besides its counters.
#[derive(Debug)]
struct SessionStatus {
    path_names: Vec<String>,
    sites: Vec<SiteCount>,
    events_unread: u64,
    limited: Option<OverheadReport>,
    /// The latest of each kind on each filesystem.
    events: Vec<EventRecord>,
    tended: Instant,
}

impl SessionThread {
    /// Starts the thread. `live` has to have begun in `runtime`.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn begin(live: Live, runtime: Runtime) -> Result<Self> {
        let known = SessionStatus {
            path_names: live.path_names().to_vec(),
            sites: sites(live.plan()),
            events_unread: 0,
            limited: live.limited(),
            events: Vec::new(),
            tended: Instant::now(),
        };
        let known = Arc::new(Mutex::new(known));
        // Dropped with the thread, whatever ends it.
        let (runs, ended) = oneshot::channel();
        let tended = Self {
            kernel: live.kernel().to_owned(),
            floor: live.floor(),
            timing: live.timing(),
            counters: Arc::clone(live.counters()),
            known: Arc::clone(&known),
            ended,
        };
        let tend = move || {
            let _runs: oneshot::Sender<()> = runs;
            runtime.block_on(tend(live, &known));
        };
        thread::Builder::new()
            .name("session".to_owned())
            .spawn(tend)
            .map_err(|error| anyhow!(why_no_thread(&error)))?;
        Ok(tended)
    }

    /// Reads all counters, with the names of the write paths.
    pub fn snapshot(&self) -> (Snapshot, Vec<String>) {
        let (path_names, events_unread) = {
            let known = lock(&self.known);
            (known.path_names.clone(), known.events_unread)
        };
        (self.counters.snapshot(path_names.len(), events_unread), path_names)
    }

    /// Filesystems that found no slot.
    pub fn n_without_slot(&self) -> u64 {
        self.counters.n_without_slot()
    }

    /// Call sites by operation and mechanism.
    pub fn sites(&self) -> Vec<SiteCount> {
        lock(&self.known).sites.clone()
    }

    /// The latest short copy and failed prefault, whole and partial, on each filesystem, if events are wanted.
    pub fn events(&self) -> Vec<EventRecord> {
        lock(&self.known).events.clone()
    }

    /// What came of a limit to the cost, if there is one.
    pub fn limited(&self) -> Option<OverheadReport> {
        lock(&self.known).limited.clone()
    }

    /// For how long the session has not been tended.
    pub fn idle(&self) -> Duration {
        lock(&self.known).tended.elapsed()
    }

    /// Waits for the end of the thread, which has none unless something in it is wrong.
    pub async fn ended(&mut self) -> anyhow::Error {
        let _dropped = (&mut self.ended).await;
        anyhow!("the thread that tends the session has ended")
    }
}

fn lock(known: &Mutex<SessionStatus>) -> MutexGuard<'_, SessionStatus> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn tend(mut live: Live, known: &Mutex<SessionStatus>) {
    let mut complaints = LogOnce::default();
    loop {
        let tended = live.tend().await;
        if let Err(error) = &tended {
            complaints.say_once(error);
            // What fails again at once must not take the processor.
            sleep(PAUSE).await;
        }
        let mut known = lock(known);
        tended.unwrap_or_default().into_iter().for_each(|event| keep(&mut known.events, event));
        known.tended = Instant::now();
        known.events_unread = live.events_unread();
        known.limited = live.limited();
        if live.plan_has_changed() {
            known.path_names = live.path_names().to_vec();
            known.sites = sites(live.plan());
        }
    }
}

/// Keeps an event in place of the one before it of its kind.
fn keep(events: &mut Vec<EventRecord>, event: EventRecord) {
    let is_like = |known: &&mut EventRecord| {
        (known.kind, known.done == 0, &known.fstype, &known.device)
            == (event.kind, event.done == 0, &event.fstype, &event.device)
    };
    match events.iter_mut().find(is_like) {
        Some(known) => *known = event,
        None => events.push(event),
    }
}

/// Call sites by operation and mechanism; that some could not be measured is always said.
fn sites(plan: &Plan) -> Vec<SiteCount> {
    let mut counts: Vec<SiteCount> = [Operation::Prefault, Operation::Copy]
        .map(|operation| SiteCount { operation, mechanism: SiteMechanism::None, count: 0 })
        .into();
    for planned in &plan.sites {
        let operation = planned.site.target.signature.operation;
        let mechanism = match &planned.mechanism {
            Ok(_) if planned.not_understood().is_some() => SiteMechanism::Unattributed,
            Ok(mechanism) => SiteMechanism::By(*mechanism),
            Err(Refusal::NoPath(NoPath::NotAWrite(_))) => SiteMechanism::NotAWrite,
            Err(_) => SiteMechanism::None,
        };
        match counts.iter_mut().find(|known| known.operation == operation && known.mechanism == mechanism) {
            Some(known) => known.count += 1,
            None => counts.push(SiteCount { operation, mechanism, count: 1 }),
        }
    }
    counts
}
