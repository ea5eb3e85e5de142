//! Attaching a plan: which program goes on which point, in which order, and what the kernel refuses.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    slice,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf,
    maps::HashMap,
    programs::{FEntry, FExit, KProbe, RawTracePoint},
};
use prefault_ebpf::{
    COOKIE_ASKED_BEHIND, COOKIE_COPIES, COOKIE_FILE, COOKIE_POSITION_IS_THIRD, HELD_BY_NOTHING, HELD_BY_STACK,
    cookie_of_arguments, map, program,
};

use super::{
    attach::{KprobePmu, Link, attach_tracing},
    load::despite_signals,
    plan::{Mechanism, Plan, PlannedPath, Refusal, without_trampoline},
    stats::Programs,
};
use crate::sites::{Around, Destination, FloorPlaces, Holder, Operation, Path};

/// The programs, and everything they are attached to.
pub(super) struct Attaching {
    bpf: Ebpf,
    pmu: KprobePmu,
    without_cookies: bool,
    /// All programs that were loaded, for their statistics.
    programs: Programs,
    points: Vec<Point>,
}

/// An attached point.
struct Point {
    place: Place,
    /// The module it is in, `None` for the kernel.
    module: Option<String>,
    link: Link,
}

/// What a point is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Entry(usize),
    Return(usize),
    Call(u64),
    AfterCall(u64),
    Target(u64),
}

impl Attaching {
    /// `without_cookies`: points at the entry of paths are told apart by address, in a map. What is loaded is added to
    /// `programs`.
    pub(super) fn new(bpf: Ebpf, without_cookies: bool, programs: Programs) -> Result<Self> {
        let pmu = KprobePmu::open().context("failed to find the kprobe PMU")?;
        Ok(Self { bpf, pmu, without_cookies, programs, points: Vec::new() })
    }

    pub(super) fn bpf(&mut self) -> &mut Ebpf {
        &mut self.bpf
    }

    /// Follows processes through fork and exit, so that children are measured too.
    pub(super) fn follow_processes(&mut self) -> Result<()> {
        let tracepoints = [(program::FOLLOW_FORK, "sched_process_fork"), (program::FOLLOW_EXIT, "sched_process_exit")];
        for (name, tracepoint) in tracepoints {
            let program = self.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
            let program: &mut RawTracePoint = program.try_into()?;
            let loaded = despite_signals(|| program.load());
            loaded.with_context(|| format!("failed to load the BPF program {name}"))?;
            program.attach(tracepoint).with_context(|| format!("failed to attach to the tracepoint {tracepoint}"))?;
            self.programs.push(program.fd()?.as_fd().try_clone_to_owned()?);
        }
        Ok(())
    }

    /// Attaches what of `plan` is not attached yet, and writes into it what the kernel refuses.
    ///
    /// Returns come before calls, and entries of paths last: a write that is seen to enter is then seen whole.
    pub(super) fn attach_all(&mut self, plan: &mut Plan) -> Result<()> {
        // Only needed now, and large.
        let mut btf = None;
        self.attach_paths(plan, &mut btf, false)?;
        drop_sites_without_path(plan);
        self.attach_targets(plan)?;
        self.attach_sites(plan, true)?;
        self.attach_sites(plan, false)?;
        self.attach_paths(plan, &mut btf, true)?;
        drop_sites_without_path(plan);
        Ok(())
    }

    /// Detaches every point in `module`.
    pub(super) fn forget(&mut self, module: &str) {
        self.points.retain(|point| point.module.as_deref() != Some(module));
    }

    /// Where there are kprobes for `places`, in their order.
    pub(super) fn addresses(&self, places: &[Place]) -> Vec<u64> {
        let of = |&place: &Place| self.points.iter().filter(move |point| point.place == place);
        places.iter().flat_map(of).filter_map(|point| point.link.address).collect()
    }

    fn is_attached(&self, place: Place) -> bool {
        self.points.iter().any(|point| point.place == place)
    }

    fn attach_paths(&mut self, plan: &mut Plan, btf: &mut Option<Btf>, entry: bool) -> Result<()> {
        for (number, planned) in plan.paths.iter_mut().enumerate() {
            let place = if entry { Place::Entry(number) } else { Place::Return(number) };
            if planned.mechanism.is_err() || self.is_attached(place) {
                continue;
            }
            let cookie = cookie_of(number, &planned.path);
            if self.without_cookies {
                planned.mechanism = Ok(without_trampoline(&planned.path));
            }
            let Ok(mechanism) = planned.mechanism else { continue };
            let attached = match (mechanism, self.attach_path(planned, mechanism, btf, entry, cookie)?) {
                // What the facts let expect the kernel may still refuse; the other ways need less of it.
                (Mechanism::Trampoline, Err(_)) => {
                    let other = without_trampoline(&planned.path);
                    self.attach_path(planned, other, btf, entry, cookie)?.map(|links| (other, links))
                }
                (mechanism, attached) => attached.map(|links| (mechanism, links)),
            };
            planned.mechanism = match attached {
                Ok((mechanism, links)) => {
                    let module = &planned.path.module;
                    self.points.extend(links.into_iter().map(|link| Point { place, module: module.clone(), link }));
                    Ok(mechanism)
                }
                Err(error) => Err(Refusal::Kernel(error.to_string())),
            };
        }
        Ok(())
    }

    /// Tells the programs what the point at `address` is.
    fn name_point(&mut self, address: u64, cookie: u64) -> Result<()> {
        let map = self.bpf.map_mut(map::POINTS).ok_or_else(|| anyhow!("the BPF object has no map {}", map::POINTS))?;
        let mut points = HashMap::<_, u64, u64>::try_from(map)?;
        points.insert(address, cookie, 0).context("failed to name a point")
    }

    /// Attaches the entry of a path, or everything that returns from it.
    fn attach_path(
        &mut self,
        planned: &PlannedPath,
        mechanism: Mechanism,
        btf: &mut Option<Btf>,
        entry: bool,
        cookie: u64,
    ) -> Result<io::Result<Vec<Link>>> {
        let path = &planned.path;
        if mechanism == Mechanism::Trampoline {
            let program = match self.load_tracing(&path.function, btf, entry) {
                Ok(program) => program,
                Err(error) => return Ok(Err(io::Error::other(format!("{error:#}")))),
            };
            let link = attach_tracing(program.as_fd(), !entry, cookie);
            self.programs.push(program);
            return Ok(link.map(|link| vec![link]));
        }
        let (name, places, on_return) = match (entry, &path.returns) {
            (true, _) => (program::ENTER_KPROBE, slice::from_ref(&path.entry), false),
            (false, Some(returns)) if mechanism == Mechanism::ReturnSites => {
                (program::LEAVE_KPROBE, returns.as_slice(), false)
            }
            (false, _) => (program::LEAVE_KRETPROBE, slice::from_ref(&path.address), true),
        };
        let mut links = Vec::new();
        for &address in places {
            if self.without_cookies && !on_return {
                self.name_point(address, cookie)?;
            }
            match self.attach_probe(name, address, on_return, cookie)? {
                Ok(link) => links.push(link),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(links))
    }

    /// Loads a tracing program for `function`. A program is loaded for one function, so that each path has its own;
    /// aya holds one at a time, and our descriptor keeps those before.
    fn load_tracing(&mut self, function: &str, btf: &mut Option<Btf>, entry: bool) -> Result<OwnedFd> {
        let name = if entry { program::ENTER_FENTRY } else { program::LEAVE_FEXIT };
        let program = self.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
        let btf = match btf {
            Some(btf) => btf,
            None => btf.insert(Btf::from_sys_fs().context("failed to parse the kernel's BTF")?),
        };
        macro_rules! load {
            ($kind:ty) => {{
                let program: &mut $kind = program.try_into()?;
                despite_signals(|| program.load(function, btf))?;
                let fd = program.fd()?.as_fd().try_clone_to_owned()?;
                program.unload()?;
                Ok(fd)
            }};
        }
        if entry { load!(FEntry) } else { load!(FExit) }
    }

    /// Probes measured functions themselves, where the plan says that the kernel allows it.
    fn attach_targets(&mut self, plan: &Plan) -> Result<()> {
        for planned in plan.targets.iter().filter(|planned| planned.traceable) {
            let place = Place::Target(planned.target.address);
            if self.is_attached(place) {
                continue;
            }
            let (begin, end) = match planned.target.signature.operation {
                Operation::Prefault => (program::PREFAULT_BEGIN, program::PREFAULT_RETURN),
                Operation::Copy => (program::COPY_BEGIN, program::COPY_RETURN),
            };
            let cookie = cookie_of_arguments(planned.target.signature.registers().map(u64::from));
            for (name, on_return, cookie) in [(end, true, 0), (begin, false, cookie)] {
                let link = self.attach_probe(name, planned.target.address, on_return, cookie)?;
                let link = link.with_context(|| format!("failed to probe {}", planned.target.signature.name))?;
                self.points.push(Point { place, module: None, link });
            }
        }
        Ok(())
    }

    /// Probes the places that measure the floor, for as long as the links are kept. What is refused is not measured.
    pub(super) fn attach_floor(&mut self, places: &FloorPlaces) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        let ends = [(places.jumps, program::FLOOR_END), (places.traps, program::FLOOR_END_OF_TRAPS)];
        for (place, end) in ends.into_iter().filter_map(|(place, end)| Some((place?, end))) {
            let points = [(end, place.blocker), (end, Some(place.end)), (program::FLOOR_BEGIN, Some(place.begin))];
            for (name, address) in points.into_iter().filter_map(|(name, address)| Some((name, address?))) {
                match self.attach_probe(name, address, false, 0)? {
                    Ok(link) => links.push(link),
                    Err(error) => log::info!("the floor is not measured at {address:#x}: the kernel refused: {error}"),
                }
            }
        }
        Ok(links)
    }

    fn attach_sites(&mut self, plan: &mut Plan, ends: bool) -> Result<()> {
        for planned in plan.sites.iter_mut().filter(|planned| planned.mechanism == Ok(Mechanism::CallSite)) {
            let call = &planned.site.call;
            let (name, place) = match (planned.site.target.signature.operation, ends) {
                (Operation::Prefault, false) => (program::PREFAULT_BEGIN, Place::Call(call.address)),
                (Operation::Prefault, true) => (program::PREFAULT_END, Place::AfterCall(call.address)),
                (Operation::Copy, false) => (program::COPY_BEGIN, Place::Call(call.address)),
                (Operation::Copy, true) => (program::COPY_END, Place::AfterCall(call.address)),
            };
            if self.is_attached(place) {
                continue;
            }
            let around = &planned.site.around;
            let (addresses, cookie) = match (self.without_cookies, ends) {
                (true, false) => (slice::from_ref(&call.address), 0),
                (true, true) => (slice::from_ref(&call.after), 0),
                (false, false) => (slice::from_ref(&around.begin), cookie_before(around)),
                (false, true) => (around.ends.as_slice(), cookie_behind(around)),
            };
            for &address in addresses {
                match self.attach_probe(name, address, false, cookie)? {
                    Ok(link) => self.points.push(Point { place, module: call.module.clone(), link }),
                    Err(error) => {
                        // Half a site would count every operation as lost.
                        self.points.retain(|point| point.place != Place::AfterCall(call.address));
                        planned.mechanism = Err(Refusal::Kernel(error.to_string()));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Attaches program `name` at `address`, loading it first if need be. The inner error is the kernel's refusal of
    /// this point, the outer one means that no point of this kind can work.
    fn attach_probe(&mut self, name: &str, address: u64, on_return: bool, cookie: u64) -> Result<io::Result<Link>> {
        let program = self.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
        let program: &mut KProbe = program.try_into()?;
        if program.fd().is_err() {
            let loaded = despite_signals(|| program.load());
            loaded.with_context(|| format!("failed to load the BPF program {name}"))?;
            self.programs.push(program.fd()?.as_fd().try_clone_to_owned()?);
        }
        Ok(self.pmu.attach(program.fd()?.as_fd(), address, on_return, cookie))
    }
}

/// What the programs have to know of path `number`.
fn cookie_of(number: usize, path: &Path) -> u64 {
    let destination = match path.destination {
        Destination::Kiocb => 0,
        Destination::FileAndSecond => COOKIE_FILE,
        Destination::FileAndThird => COOKIE_FILE | COOKIE_POSITION_IS_THIRD,
    };
    number as u64 | if path.copies { COOKIE_COPIES } else { 0 } | destination
}

/// What holds the arguments at the point before a call.
fn cookie_before(around: &Around) -> u64 {
    cookie_of_arguments([around.asked, around.iter].map(|holder| match holder {
        Holder::Register(number) => number.into(),
        Holder::StackWord(word) => HELD_BY_STACK | u64::from(word),
        Holder::RegisterBehind(_) => HELD_BY_NOTHING,
    }))
}

/// What is to be looked at behind a call.
fn cookie_behind(around: &Around) -> u64 {
    match around.asked {
        Holder::RegisterBehind(number) => COOKIE_ASKED_BEHIND | u64::from(number),
        Holder::Register(_) | Holder::StackWord(_) => 0,
    }
}

/// Without its path a site's operations have no context.
fn drop_sites_without_path(plan: &mut Plan) {
    let Plan { paths, sites, .. } = plan;
    for planned in sites.iter_mut().filter(|planned| planned.mechanism.is_ok()) {
        let numbers = planned.site.paths.as_deref().unwrap_or_default();
        if let Some(&number) = numbers.iter().find(|&&number| paths[number].mechanism.is_err()) {
            planned.mechanism = Err(Refusal::PathNotProbed(paths[number].path.function.clone()));
        }
    }
}
