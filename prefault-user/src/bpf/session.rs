//! The session: loads the programs, attaches the plan, follows modules.
//!
//! What it attached ends with it: every attachment is a descriptor of this process.

use std::{fs, process, sync::Arc};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{HashMap, Queue, RingBuf},
};
use aya_log::EbpfLogger;
use prefault_ebpf::{CONFIG, DEFAULT_SLOTS, MAX_FILTERED, MAX_PROCESSES, MAX_WITHOUT_SLOT, OTHER_SLOT, map, timing};

use super::{
    attaching::Attaching,
    counters::Counters,
    descriptors::Needs,
    filters::Filters,
    floor, made,
    object::{Object, object},
    opening::close_all,
    pods::PodConfig,
    rings::Ring,
    sight::Sight,
    stats::{self, Programs},
    windows::Controls,
};
use crate::{
    data::{Floor, Silence, SiteReport, Snapshot, Timing},
    host::environment::{has_process_ids_of_host, n_processors},
    phases::Phases,
    plan::{
        MechanismChoice, Plan, StartError, TooFewDescriptors,
        points::{Place, ProbeSupport},
    },
    sites::Operation,
};

/// Name of aya-log's level, a global of the BPF side.
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// What the user wants of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the programs' own messages are wanted.
    pub verbose: bool,
    /// Whether short copies and failed prefaults come one by one too; somebody has to take them out of the ring.
    pub events: bool,
    /// Filesystems with a slot of their own, 1 to [`prefault_ebpf::MAX_SLOTS`].
    pub slots: u32,
    /// Which writes are measured.
    pub filters: Filters,
    /// Whether what measuring takes is measured too.
    pub own_cost: bool,
    /// Which writes are timed.
    pub timing: Timing,
    /// Whether what the points themselves add to latencies is measured, at the start.
    pub floor: bool,
    /// Percent of the time of all processors that measuring may take: writes are then counted in windows, and how many are
    /// timed can change. Somebody has to keep to it.
    pub limit_percent: Option<f64>,
    /// How the kernel is probed; the plan is made so.
    pub wish: MechanismChoice,
    /// Descriptors that the command needs besides those of the session.
    pub descriptors: u64,
}

impl Options {
    /// Whether operations need no point before them: when they began is not to be known, events, which say where, are not
    /// wanted, and a cookie can say what holds their arguments behind them.
    fn has_single_points(&self, object: Object) -> bool {
        self.timing.one_in().is_none() && !self.events && !object.is_legacy
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verbose: false,
            events: false,
            slots: DEFAULT_SLOTS,
            filters: Filters::default(),
            own_cost: false,
            timing: Timing::All,
            floor: false,
            limit_percent: None,
            wish: MechanismChoice::Auto,
            descriptors: 0,
        }
    }
}

/// Programs that are loaded and attached.
pub struct Session {
    pub(super) plan: Plan,
    pub(super) attaching: Attaching,
    pub(super) controls: Controls,
    counters: Arc<Counters>,
    needs: Needs,
    /// What the points themselves add to latencies, if that was measured.
    floor: Option<Floor>,
}

impl Session {
    /// Loads and attaches `plan`. Points that the kernel refuses are marked so in [`Session::plan`].
    ///
    /// # Errors
    /// If the programs cannot be loaded, or nothing of one of the two operations could be attached.
    pub fn start(plan: Plan, groundwork: Preloaded, options: &Options, phases: &Phases) -> Result<Self> {
        let Preloaded { object, loader, btf } = groundwork;
        let manners =
            ProbeSupport { without_cookies: object.is_legacy, single_points: options.has_single_points(object) };
        let floor = options.floor.then_some(plan.floor);
        let needs = Needs::begin(options.descriptors, manners);
        needs.ensure(&plan, floor.as_ref())?;
        let load = || load(object, loader, &plan, options);
        let mut bpf = phases.measure("read the object, make maps", load).context("failed to load the BPF programs")?;
        free_slots(&mut bpf, options.slots)?;
        options.filters.fill(&mut bpf)?;
        let runs_measured = options.own_cost.then(stats::measure_runs).transpose();
        let programs = Programs::default();
        let runs_measured = runs_measured
            .context("failed to measure the runs of BPF programs, as --own-cost and --max-overhead ask (Linux 5.8)")?;
        let counters =
            Counters::take(&mut bpf, programs.clone(), runs_measured, Sight::open([plan.depends_on_ftrace(), true]))?;
        let controls = Controls::take(&mut bpf)?;
        let attaching = Attaching::new(bpf, manners, btf, programs)?;
        let mut session = Self { plan, attaching, controls, counters: Arc::new(counters), needs, floor: None };
        if let Timing::OneIn(n) = options.timing {
            session.time_one_in(n);
        } else if options.limit_percent.is_some() {
            session.time_one_in(1);
        }
        if options.filters.follow {
            session.attaching.follow_processes()?;
        }
        session.attaching.prepare(&session.plan, floor.as_ref(), phases)?;
        let floor_points = floor.map(|floor| session.attaching.attach_floor(&floor)).transpose()?.unwrap_or_default();
        phases.measure("attach", || session.attaching.attach_all(&mut session.plan))?;
        session.tell_sight();
        if options.wish == MechanismChoice::Fentry && !session.plan.has_trampolines() {
            return Err(StartError::FentryRefused.into());
        }
        if options.floor {
            let measure = || floor::measure(session.attaching.bpf(), &session.plan.floor);
            session.floor = Some(phases.measure("measure the floor", measure)?);
        }
        phases.measure("detach the floor", || close_all(floor_points));
        return_memory();
        for operation in [Operation::Prefault, Operation::Copy] {
            if !session.plan.measures(operation) {
                return Err(StartError::NothingProbed { operation, why: session.plan.first_refusal(operation) }.into());
            }
        }
        Ok(session)
    }

    /// The plan, with what the kernel refused.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the points themselves add to latencies, if [`Options::floor`] asked for it.
    pub fn floor(&self) -> Option<Floor> {
        self.floor
    }

    /// What became of every site, and what the kernel has made of its points so far.
    pub fn site_reports(&self) -> Vec<SiteReport> {
        let kprobes = made::look().unwrap_or_default();
        self.plan.site_reports(|call| made::points(&kprobes, &self.kprobes_of_site(call)))
    }

    /// Addresses of the kprobes at the entry and the returns of path number `path`.
    pub fn kprobes_of_path(&self, path: usize) -> Vec<u64> {
        self.attaching.addresses(&[Place::Entry(path), Place::Return(path)])
    }

    /// Addresses of the kprobes around the call at `call`.
    pub fn kprobes_of_site(&self, call: u64) -> Vec<u64> {
        self.attaching.addresses(&[Place::Call(call), Place::AfterCall(call)])
    }

    /// Probes what modules that were loaded meanwhile bring: `found` is the plan for these modules alone.
    ///
    /// Where there are too few descriptors for all of it, it stays as it is, and the result says so.
    ///
    /// # Errors
    /// If no point of some kind can be attached any more.
    pub fn extend(&mut self, modules: &[String], found: Plan) -> Result<Option<TooFewDescriptors>> {
        self.plan.extend(found);
        let too_few = self.needs.ensure(&self.plan, None).err();
        if let Some(too_few) = &too_few {
            let attaching = &self.attaching;
            self.plan.refuse(modules, too_few, |place| attaching.is_attached(place));
        }
        let attached = self.attach_missing();
        return_memory();
        attached.map(|()| too_few)
    }

    /// Attaches what of the plan is not attached: what modules brought, or what [`Session::pause`] took away.
    ///
    /// # Errors
    /// If no point of some kind can be attached any more.
    pub fn attach_missing(&mut self) -> Result<()> {
        self.attaching.prepare(&self.plan, None, &Phases::begin())?;
        let attached = self.attaching.attach_all(&mut self.plan);
        self.tell_sight();
        attached
    }

    /// Has paths that are probed by fentry and fexit be probed by kprobes from now on: ftrace is switched off. Writes that are
    /// inside such a path meanwhile are lost. True if there were any.
    ///
    /// # Errors
    /// As [`Session::attach_missing`].
    pub fn leave_trampolines(&mut self) -> Result<bool> {
        let paths = self.plan.leave_trampolines();
        if paths.is_empty() {
            return Ok(false);
        }
        self.attaching.detach_paths(&paths);
        self.attach_missing()?;
        Ok(true)
    }

    fn tell_sight(&self) {
        self.counters.sight().depend(Silence::FtraceOff, self.plan.depends_on_ftrace());
    }

    /// Measures `process` from now on, or no longer; for sessions that follow processes.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn measure_process(&mut self, process: u32, measure: bool) -> Result<()> {
        let map = self.attaching.bpf().map_mut(map::PROCESSES).context("the BPF object has no map of processes")?;
        let mut processes = HashMap::<_, u32, u8>::try_from(map)?;
        if measure {
            processes.insert(process, 0, 0)?
        } else {
            processes.remove(&process)?
        }
        Ok(())
    }

    /// Lets go of what was probed in `module`, which is no longer loaded; its counters stay.
    pub fn forget(&mut self, module: &str) {
        self.plan.forget(module);
        self.attaching.forget(module);
    }

    /// Bytes of kernel memory that the maps take, as the kernel reckons.
    ///
    /// # Errors
    /// If the descriptors of this process cannot be looked at.
    pub fn map_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir("/proc/self/fdinfo").context("failed to look at the descriptors")? {
            // The descriptor of this very folder is gone when its turn comes.
            let info = fs::read(entry?.path()).unwrap_or_default();
            let info = String::from_utf8_lossy(&info);
            if info.contains("map_id:") {
                bytes += stats::number(&info, "memlock:").unwrap_or(0);
            }
        }
        Ok(bytes)
    }

    /// The ring of single events; once.
    ///
    /// # Errors
    /// If it was taken before.
    pub fn take_events(&mut self) -> Result<Ring> {
        Ring::watch(RingBuf::try_from(take(self.attaching.bpf(), map::EVENTS)?)?)
    }

    /// The ring that says that modules are loaded; once. `None` where the kernel does not say it.
    ///
    /// # Errors
    /// If it was taken before.
    pub fn take_announcements(&mut self) -> Result<Option<Ring>> {
        if let Err(error) = self.attaching.announce_modules() {
            log::info!("modules are looked for, because the kernel does not announce them: {error:#}");
            return Ok(None);
        }
        Ring::watch(RingBuf::try_from(take(self.attaching.bpf(), map::MODULES)?)?).map(Some)
    }

    /// The programs' own messages; none come unless the session was started verbose, and `None` where the programs have
    /// none.
    ///
    /// # Errors
    /// If the log map cannot be read.
    pub fn logger(&mut self) -> Result<Option<Messages>> {
        match EbpfLogger::init(self.attaching.bpf()) {
            Err(aya_log::Error::MapNotFound) => Ok(None),
            logger => Ok(Some(logger?)),
        }
    }

    /// What it counts, to be read by whoever wants to.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Reads all counters. `events_unread` is what the caller could not take in.
    pub fn snapshot(&self, events_unread: u64) -> Snapshot {
        self.counters.snapshot(self.plan.paths.len(), events_unread)
    }
}

/// The programs' own messages.
pub type Messages = EbpfLogger<&'static dyn log::Log>;

/// What loading takes and nothing is known of the kernel's functions for.
pub struct Preloaded {
    object: Object,
    /// It parses the kernel's BTF for itself.
    loader: EbpfLoader<'static>,
    /// The kernel's, where programs are loaded that need it.
    btf: Option<Btf>,
}

impl Preloaded {
    /// Chooses the object and reads the kernel's BTF.
    ///
    /// # Errors
    /// If BPF programs cannot be loaded at all, or the BTF not be read.
    pub fn prepare() -> Result<Self> {
        let object = object()?;
        let btf =
            if object.is_legacy { None } else { Some(Btf::from_sys_fs().context("failed to parse the kernel's BTF")?) };
        Ok(Self { object, loader: EbpfLoader::new(), btf })
    }
}

fn load(object: Object, loader: EbpfLoader<'_>, plan: &Plan, options: &Options) -> Result<Ebpf> {
    let Options { verbose, events, slots, ref filters, own_cost: _, timing, floor, limit_percent, .. } = *options;
    let limited = limit_percent.is_some();
    // Where pointers get no types (before 6.2) the verifier finds programs with messages too large (E2BIG on 6.1).
    let log_level: u8 = if verbose && plan.cast.is_some() { log::Level::Info as u8 } else { 0 };
    // The verifier's log is pages long, and writing it slows the load down.
    let verifier_log = if verbose { VerifierLogLevel::DEBUG } else { VerifierLogLevel::DISABLE };
    let mut config = PodConfig(plan.config);
    config.0.events = u32::from(events);
    filters.configure(&mut config.0);
    config.0.single_points = u32::from(options.has_single_points(object));
    // Where this process has another number than in the kernel it would wait for somebody else's calls.
    config.0.floor_process = if floor && has_process_ids_of_host() { process::id() } else { 0 };
    config.0.windows = u32::from(limited);
    config.0.timing = match timing {
        Timing::All if limited => timing::SAMPLED,
        Timing::All => timing::ALL,
        Timing::None | Timing::CoarseClock { .. } => timing::NONE,
        Timing::OneIn(_) => timing::SAMPLED,
    };
    let n_processors = n_processors()?;
    config.0.n_processors = n_processors;
    let mut loader: EbpfLoader<'_> = loader;
    Ok(loader
        .allow_unsupported_maps()
        .verifier_log_level(verifier_log)
        .map_max_entries(map::LEDGERS, (slots + 1) * n_processors)
        .map_max_entries(map::LOSSES, n_processors)
        .map_max_entries(map::SLOTS, slots + MAX_WITHOUT_SLOT + if filters.by_filesystem() { MAX_FILTERED } else { 0 })
        .map_max_entries(
            map::PROCESSES,
            if filters.follow { MAX_PROCESSES } else { filters.processes.len().max(1) as u32 },
        )
        .map_max_entries(map::SLOT_INFO, slots + 1)
        .map_max_entries(map::FREE_SLOTS, slots)
        .map_max_entries(map::PLACES, n_processors)
        .override_global(CONFIG, &config, true)
        .override_global(LOG_LEVEL, &log_level, !object.is_legacy)
        .load(&object.with_cast(plan.cast))?)
}

/// Says that all slots are free but that of filesystems that found none.
fn free_slots(bpf: &mut Ebpf, slots: u32) -> Result<()> {
    let map = bpf.map_mut(map::FREE_SLOTS).context("the BPF object has no map of free slots")?;
    let mut free = Queue::<_, u32>::try_from(map)?;
    (OTHER_SLOT + 1..=slots).try_for_each(|slot| free.push(slot, 0)).context("failed to free the filesystem slots")
}

pub(super) fn take(bpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    bpf.take_map(name).ok_or_else(|| anyhow!("the BPF object has no map {name} (left)"))
}

/// Gives back what parsing the kernel's types took, which is most of what this process ever has.
fn return_memory() {
    // SAFETY: the call has no preconditions.
    unsafe { libc::malloc_trim(0) };
}
