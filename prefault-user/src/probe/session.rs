//! The session: loads the programs, attaches the plan, and reads the maps.
//!
//! What it attached ends with it: every attachment is a descriptor of this process.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::{FEntry, FExit, KProbe},
};
use aya_log::EbpfLogger;
use prefault_ebpf::{CONFIG, COOKIE_COPIES, MAX_PATHS, N_LOSSES, OTHER_SLOT, map, program};

use super::{
    attach::{KprobePmu, Link, attach_tracing},
    plan::{Mechanism, Plan, PlannedPath, Refusal},
    pods::{PodConfig, PodLedger, PodLosses, PodPathLedger, PodSlotInfo},
};
use crate::{
    data::{Filesystem, FilesystemCounters, PathCounters, Snapshot, add_ledger, add_path_ledger, zero_ledger},
    sites::Operation,
};

/// The BPF object, built by the build script.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/prefault-programs"));

/// Name of aya-log's level, a global of the BPF side.
const LOG_LEVEL: &str = "AYA_LOG_LEVEL";

/// Programs that are loaded and attached.
pub struct Session {
    plan: Plan,
    bpf: Ebpf,
    programs: Vec<OwnedFd>,
    links: Vec<Link>,
    ledgers: PerCpuArray<MapData, PodLedger>,
    path_ledgers: PerCpuArray<MapData, PodPathLedger>,
    losses: PerCpuArray<MapData, PodLosses>,
    slot_info: HashMap<MapData, u32, PodSlotInfo>,
}

impl Session {
    /// Loads and attaches `plan`. Points that the kernel refuses are marked so in [`Session::plan`].
    ///
    /// # Errors
    /// If the programs cannot be loaded, or nothing of one of the two operations could be attached.
    pub fn start(plan: Plan, verbose: bool) -> Result<Self> {
        raise_memlock_limit();
        let mut bpf = load(&plan, verbose).context("failed to load the BPF programs")?;
        let mut session = Self {
            ledgers: PerCpuArray::try_from(take(&mut bpf, map::LEDGERS)?)?,
            path_ledgers: PerCpuArray::try_from(take(&mut bpf, map::PATH_LEDGERS)?)?,
            losses: PerCpuArray::try_from(take(&mut bpf, map::LOSSES)?)?,
            slot_info: HashMap::try_from(take(&mut bpf, map::SLOT_INFO)?)?,
            plan,
            bpf,
            programs: Vec::new(),
            links: Vec::new(),
        };
        Attaching::new(&mut session)?.attach_all()?;
        for operation in [Operation::Prefault, Operation::Copy] {
            if !session.plan.measures(operation) {
                let why = session.plan.first_refusal(operation);
                return Err(anyhow!("no call of the {operation} could be probed: {why}"));
            }
        }
        Ok(session)
    }

    /// The plan, with what the kernel refused.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The ring of single events; once.
    ///
    /// # Errors
    /// If it was taken before.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>> {
        Ok(RingBuf::try_from(take(&mut self.bpf, map::EVENTS)?)?)
    }

    /// The programs' own messages; none come unless the session was started verbose.
    ///
    /// # Errors
    /// If the log map cannot be read.
    pub fn logger(&mut self) -> Result<EbpfLogger<&'static dyn log::Log>> {
        Ok(EbpfLogger::init(&mut self.bpf)?)
    }

    /// Reads all counters. `events_unread` is what the caller could not take in.
    ///
    /// # Errors
    /// If a map cannot be read.
    pub fn snapshot(&self, events_unread: u64) -> Result<Snapshot> {
        let mut filesystems = Vec::new();
        for (slot, identity) in self.filesystems()? {
            filesystems.push(self.counters(slot, identity)?);
        }
        let mut losses = [0; N_LOSSES];
        for PodLosses(part) in self.losses.get(&0, 0).context("failed to read the loss counters")?.iter() {
            losses.iter_mut().zip(part).for_each(|(sum, n)| *sum += n);
        }
        let missed_runs = self.programs.iter().map(|program| missed_runs(program.as_fd())).sum();
        Ok(Snapshot { at_ns: monotonic_ns(), filesystems, losses, missed_runs, events_unread })
    }

    /// What each slot in use stands for, and the one that takes the rest; by slot.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn filesystems(&self) -> Result<Vec<(u32, Filesystem)>> {
        let mut filesystems = vec![(OTHER_SLOT, Filesystem::other())];
        for entry in self.slot_info.iter() {
            let (slot, PodSlotInfo(info)) = entry.context("failed to read the filesystem slots")?;
            let mut identity = Filesystem::from_slot_info(&info, None);
            if identity.fstype == "bdev" {
                identity = Filesystem::from_slot_info(&info, block_device_name(info.key.dev).as_deref());
            }
            filesystems.push((slot, identity));
        }
        filesystems.sort_by_key(|(slot, _)| *slot);
        Ok(filesystems)
    }

    fn counters(&self, slot: u32, identity: Filesystem) -> Result<FilesystemCounters> {
        let mut ledger = zero_ledger();
        for PodLedger(part) in self.ledgers.get(&slot, 0).context("failed to read a ledger")?.iter() {
            add_ledger(&mut ledger, part);
        }
        let mut paths = Vec::new();
        for path in 0..self.plan.paths.len().min(MAX_PATHS as usize) as u32 {
            let mut sum = PathCounters { path, ledger: Default::default() };
            let parts = self.path_ledgers.get(&(slot * MAX_PATHS + path), 0).context("failed to read a path ledger")?;
            parts.iter().for_each(|PodPathLedger(part)| add_path_ledger(&mut sum.ledger, part));
            if sum.ledger.entered != 0 {
                paths.push(sum);
            }
        }
        Ok(FilesystemCounters { slot, identity, ledger, paths })
    }
}

fn load(plan: &Plan, verbose: bool) -> Result<Ebpf> {
    let log_level: u8 = if verbose { log::Level::Info as u8 } else { 0 };
    // The verifier's log is pages long, and writing it slows the load down.
    let verifier_log = if verbose { VerifierLogLevel::DEBUG } else { VerifierLogLevel::DISABLE };
    let config = PodConfig(plan.config);
    Ok(EbpfLoader::new()
        .allow_unsupported_maps()
        .verifier_log_level(verifier_log)
        .override_global(CONFIG, &config, true)
        .override_global(LOG_LEVEL, &log_level, true)
        .load(OBJECT)?)
}

fn take(bpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    bpf.take_map(name).ok_or_else(|| anyhow!("the BPF object has no map {name} (left)"))
}

/// Attaches a plan; writes what the kernel refuses into it.
struct Attaching<'a> {
    session: &'a mut Session,
    pmu: KprobePmu,
    btf: Btf,
}

impl<'a> Attaching<'a> {
    fn new(session: &'a mut Session) -> Result<Self> {
        let pmu = KprobePmu::open().context("failed to find the kprobe PMU")?;
        let btf = Btf::from_sys_fs().context("failed to parse the kernel's BTF")?;
        Ok(Self { session, pmu, btf })
    }

    /// Returns come before calls, and entries of paths last: a write that is seen to enter is then seen whole.
    fn attach_all(&mut self) -> Result<()> {
        self.attach_paths(false)?;
        self.drop_sites_without_path();
        self.attach_targets()?;
        self.attach_sites(true)?;
        self.attach_sites(false)?;
        self.attach_paths(true)?;
        self.drop_sites_without_path();
        Ok(())
    }

    fn attach_paths(&mut self, entry: bool) -> Result<()> {
        for number in 0..self.session.plan.paths.len() {
            let planned = self.session.plan.paths[number].clone();
            let Ok(mechanism) = planned.mechanism else { continue };
            let cookie = number as u64 | if planned.path.copies { COOKIE_COPIES } else { 0 };
            let attached = match (mechanism, self.attach_path(&planned, mechanism, entry, cookie)?) {
                // What the facts let expect the kernel may still refuse; the other way needs less of it.
                (Mechanism::Trampoline, Err(_)) => {
                    let probed = self.attach_path(&planned, Mechanism::FunctionProbe, entry, cookie)?;
                    probed.map(|link| (Mechanism::FunctionProbe, link))
                }
                (mechanism, attached) => attached.map(|link| (mechanism, link)),
            };
            self.session.plan.paths[number].mechanism = match attached {
                Ok((mechanism, link)) => {
                    self.session.links.push(link);
                    Ok(mechanism)
                }
                Err(error) => Err(Refusal::Kernel(error.to_string())),
            };
        }
        Ok(())
    }

    fn attach_path(
        &mut self,
        planned: &PlannedPath,
        mechanism: Mechanism,
        entry: bool,
        cookie: u64,
    ) -> Result<std::io::Result<Link>> {
        if mechanism == Mechanism::Trampoline {
            let program = match self.load_tracing(&planned.path.function, entry) {
                Ok(program) => program,
                Err(error) => return Ok(Err(std::io::Error::other(format!("{error:#}")))),
            };
            let link = attach_tracing(program.as_fd(), !entry, cookie);
            self.session.programs.push(program);
            return Ok(link);
        }
        let name = if entry { program::ENTER_KPROBE } else { program::LEAVE_KRETPROBE };
        self.attach_probe(name, planned.path.address, !entry, cookie)
    }

    /// Loads a tracing program for `function`. A program is loaded for one function, so that each path has its own;
    /// aya holds one at a time, and our descriptor keeps those before.
    fn load_tracing(&mut self, function: &str, entry: bool) -> Result<OwnedFd> {
        let name = if entry { program::ENTER_FENTRY } else { program::LEAVE_FEXIT };
        let program = self.session.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
        let fd = if entry {
            let program: &mut FEntry = program.try_into()?;
            program.load(function, &self.btf)?;
            let fd = program.fd()?.as_fd().try_clone_to_owned()?;
            program.unload()?;
            fd
        } else {
            let program: &mut FExit = program.try_into()?;
            program.load(function, &self.btf)?;
            let fd = program.fd()?.as_fd().try_clone_to_owned()?;
            program.unload()?;
            fd
        };
        Ok(fd)
    }

    /// Probes measured functions themselves, where the plan says that the kernel allows it.
    fn attach_targets(&mut self) -> Result<()> {
        for planned in self.session.plan.targets.clone().iter().filter(|planned| planned.traceable) {
            let (begin, end) = match planned.target.signature.operation {
                Operation::Prefault => (program::PREFAULT_BEGIN, program::PREFAULT_RETURN),
                Operation::Copy => (program::COPY_BEGIN, program::COPY_RETURN),
            };
            for (name, on_return) in [(end, true), (begin, false)] {
                let link = self.attach_probe(name, planned.target.address, on_return, 0)?;
                let link = link.with_context(|| format!("failed to probe {}", planned.target.signature.name))?;
                self.session.links.push(link);
            }
        }
        Ok(())
    }

    fn attach_sites(&mut self, ends: bool) -> Result<()> {
        for number in 0..self.session.plan.sites.len() {
            let planned = &self.session.plan.sites[number];
            if planned.mechanism != Ok(Mechanism::CallSite) {
                continue;
            }
            let (name, address) = match (planned.site.target.signature.operation, ends) {
                (Operation::Prefault, false) => (program::PREFAULT_BEGIN, planned.site.call.address),
                (Operation::Prefault, true) => (program::PREFAULT_END, planned.site.call.after),
                (Operation::Copy, false) => (program::COPY_BEGIN, planned.site.call.address),
                (Operation::Copy, true) => (program::COPY_END, planned.site.call.after),
            };
            match self.attach_probe(name, address, false, number as u64)? {
                Ok(link) => self.session.links.push(link),
                Err(error) => self.session.plan.sites[number].mechanism = Err(Refusal::Kernel(error.to_string())),
            }
        }
        Ok(())
    }

    /// Without its path a site's operations have no context.
    fn drop_sites_without_path(&mut self) {
        let Plan { paths, sites, .. } = &mut self.session.plan;
        for planned in sites.iter_mut().filter(|planned| planned.mechanism.is_ok()) {
            let numbers = planned.site.paths.as_deref().unwrap_or_default();
            if let Some(&number) = numbers.iter().find(|&&number| paths[number].mechanism.is_err()) {
                planned.mechanism = Err(Refusal::PathNotProbed(paths[number].path.function.clone()));
            }
        }
    }

    /// Attaches program `name` at `address`, loading it first if need be. The inner error is the kernel's refusal of
    /// this point, the outer one means that no point of this kind can work.
    fn attach_probe(
        &mut self,
        name: &str,
        address: u64,
        on_return: bool,
        cookie: u64,
    ) -> Result<std::io::Result<Link>> {
        let program = self.session.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
        let program: &mut KProbe = program.try_into()?;
        if program.fd().is_err() {
            program.load().with_context(|| format!("failed to load the BPF program {name}"))?;
            self.session.programs.push(program.fd()?.as_fd().try_clone_to_owned()?);
        }
        Ok(self.pmu.attach(program.fd()?.as_fd(), address, on_return, cookie))
    }
}

/// Kernels before 5.11 count BPF maps against RLIMIT_MEMLOCK (d5299b67dd59 "bpf: Memcg-based memory accounting").
fn raise_memlock_limit() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives through the call. Where it matters and fails, creating the maps says so.
    let _unused = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}

/// Runs of a program that the kernel skipped, because one was already running on the CPU; 0 where it does not count
/// them (before 5.12, 9ed9e9ba2337 "bpf: Count the number of times recursion was prevented").
fn missed_runs(program: BorrowedFd<'_>) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).unwrap_or_default();
    let value = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Name of the block device with this kernel device number, `None` if there is none (any more).
fn block_device_name(dev: u32) -> Option<String> {
    let uevent = fs::read_to_string(format!("/sys/dev/block/{}:{}/uevent", dev >> 20, dev & 0xf_ffff)).ok()?;
    uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned)
}

/// CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives through the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
