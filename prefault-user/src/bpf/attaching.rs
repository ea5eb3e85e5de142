//! Attaching a plan: which program goes on which point, in which order, and what the kernel refuses.

use std::{
    collections::HashMap as Map,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf,
    maps::{HashMap, MapData},
    programs::{FEntry, FExit, KProbe, RawTracePoint},
};
use prefault_ebpf::{cookie_of_arguments, map, program};

use super::{
    attach::{KprobePmu, Link, attach_event, attach_tracing},
    load::{despite_signals, one_line},
    opening::{Opened, close_all, open_beside},
    stats::Programs,
};
use crate::{
    data::problem::errno_of,
    phases::Phases,
    plan::{
        Mechanism, Plan, PlannedPath, Refusal,
        points::{
            Place, ProbeSupport, SitePoints, Wanted, cookie_of_path, kprobes_of, points_of_floor, points_of_path,
            points_of_site,
        },
        without_trampoline,
    },
    sites::{FloorPlaces, Operation},
};

/// The programs, and everything they are attached to.
pub(super) struct Attaching {
    bpf: Ebpf,
    pmu: KprobePmu,
    manners: ProbeSupport,
    /// The kernel's types, until the first plan is attached; they are large, and modules are probed without.
    btf: Option<Btf>,
    /// All programs that were loaded, for their statistics.
    programs: Programs,
    /// Kprobes that were made and run nothing yet.
    opened: Opened,
    /// Programs of paths by number, of the entry and of returns, that were loaded and are not attached yet.
    tracing: Map<(usize, bool), Result<OwnedFd>>,
    points: Vec<Point>,
}

/// An attached point.
struct Point {
    place: Place,
    /// The module it is in, `None` for the kernel.
    module: Option<String>,
    link: Link,
}

impl Attaching {
    /// What is loaded is added to `programs`.
    pub(super) fn new(bpf: Ebpf, manners: ProbeSupport, btf: Option<Btf>, programs: Programs) -> Result<Self> {
        let pmu = KprobePmu::open().context("failed to find the kprobe PMU")?;
        Ok(Self {
            bpf,
            pmu,
            manners,
            btf,
            programs,
            opened: Opened::default(),
            tracing: Map::new(),
            points: Vec::new(),
        })
    }

    pub(super) fn bpf(&mut self) -> &mut Ebpf {
        &mut self.bpf
    }

    /// Follows processes through their begin and end, so that children are measured too.
    pub(super) fn follow_processes(&mut self) -> Result<()> {
        self.attach_tracepoint(program::FOLLOW_FORK, "sched_process_fork")?;
        self.attach_tracepoint(program::FOLLOW_FREE, "sched_process_free")
    }

    /// Has the ring `MODULES` say that a module is loaded.
    pub(super) fn announce_modules(&mut self) -> Result<()> {
        self.attach_tracepoint(program::MODULE_LOADED, "module_load")
    }

    fn attach_tracepoint(&mut self, name: &str, tracepoint: &str) -> Result<()> {
        let program = self.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
        let program: &mut RawTracePoint = program.try_into()?;
        let loaded = despite_signals(|| program.load());
        loaded.with_context(|| format!("failed to load the BPF program {name}"))?;
        program.attach(tracepoint).with_context(|| format!("failed to attach to the tracepoint {tracepoint}"))?;
        self.programs.push(program.fd()?.as_fd().try_clone_to_owned()?);
        Ok(())
    }

    /// Makes the kprobes that `plan` and the floor ask for and that are not there yet, and loads the programs meanwhile. What
    /// is refused is refused again, with its consequences, when it is attached.
    pub(super) fn prepare(&mut self, plan: &Plan, floor: Option<&FloorPlaces>, phases: &Phases) -> Result<()> {
        let mut wanted: Vec<(&str, Wanted)> = Vec::new();
        let floor = floor.map(points_of_floor).unwrap_or_default();
        wanted.extend(floor.into_iter().map(|(name, address)| (name, Wanted { address, on_return: false })));
        wanted.extend(kprobes_of(plan, self.manners, |place| self.is_attached(place)));
        let pmu = self.pmu;
        let open = |wanted: Wanted| pmu.open_event(wanted.address, wanted.on_return);
        let load = || {
            wanted.iter().try_for_each(|&(name, _)| self.load_kprobe(name).map(drop))?;
            self.load_all_tracing(plan)
        };
        let kprobes: Vec<Wanted> = wanted.iter().map(|&(_, wanted)| wanted).collect();
        let load = || phases.measure("load programs", load);
        let (opened, loaded) = phases.measure("make kprobes", || open_beside(&kprobes, open, load));
        self.opened = opened;
        loaded
    }

    fn load_all_tracing(&mut self, plan: &Plan) -> Result<()> {
        let mut btf = self.btf.take();
        for (number, planned) in plan.paths.iter().enumerate() {
            for entry in [false, true] {
                let is_trampoline = self.manners.mechanism_of(planned) == Ok(Mechanism::Trampoline);
                if !is_trampoline || self.is_attached(Place::of_path(number, entry)) {
                    continue;
                }
                let btf = match &mut btf {
                    Some(btf) => btf,
                    None => btf.insert(Btf::from_sys_fs().context("failed to parse the kernel's BTF")?),
                };
                let program = self.load_tracing(&planned.path.function, btf, entry);
                self.tracing.insert((number, entry), program);
            }
        }
        Ok(())
    }

    /// Attaches what of `plan` is not attached yet, and writes into it what the kernel refuses.
    ///
    /// Returns come before calls, and entries of paths last: a write that is seen to enter is then seen whole.
    pub(super) fn attach_all(&mut self, plan: &mut Plan) -> Result<()> {
        self.attach_paths(plan, false)?;
        plan.drop_sites_without_path();
        self.attach_targets(plan)?;
        self.attach_sites(plan, true)?;
        self.attach_sites(plan, false)?;
        self.attach_paths(plan, true)?;
        plan.drop_sites_without_path();
        // One half alone would count everything as lost.
        self.take_away(|point| point.place.is_refused(plan));
        // What was made for something that was then refused.
        self.opened = Opened::default();
        self.tracing.clear();
        Ok(())
    }

    /// Detaches every point in `module`.
    pub(super) fn forget(&mut self, module: &str) {
        self.take_away(|point| point.module.as_deref() == Some(module));
    }

    /// Takes away the kprobes of paths by number, of their entries too if so told, and of calls by address.
    pub(super) fn detach_kprobes(&mut self, paths: &[usize], entries: bool, calls: &[u64]) {
        let is_meant = |place: Place| place.is_of(paths, calls) && (entries || !matches!(place, Place::Entry(_)));
        self.take_away(|point| point.link.address.is_some() && is_meant(point.place));
    }

    /// Takes away every point of paths by number.
    pub(super) fn detach_paths(&mut self, paths: &[usize]) {
        self.take_away(|point| point.place.is_of(paths, &[]));
    }

    fn take_away(&mut self, is_meant: impl Fn(&Point) -> bool) {
        let gone: Vec<Point> = self.points.extract_if(.., |point| is_meant(point)).collect();
        let named = gone.iter().filter(|point| point.place.is_of_path());
        let named: Vec<u64> = named.filter_map(|point| point.link.address).collect();
        close_all(gone.into_iter().map(|point| point.link).collect());
        self.take_names(&named);
    }

    fn take_names(&mut self, addresses: &[u64]) {
        // Only kernels without cookies have any, and not of returns that they tell by a probe of their own.
        let Ok(mut names) = self.names_of_points() else { return };
        addresses.iter().for_each(|address| drop(names.remove(address)));
    }

    /// Where there are kprobes for `places`, in their order.
    pub(super) fn addresses(&self, places: &[Place]) -> Vec<u64> {
        let of = |&place: &Place| self.points.iter().filter(move |point| point.place == place);
        places.iter().flat_map(of).filter_map(|point| point.link.address).collect()
    }

    pub(super) fn is_attached(&self, place: Place) -> bool {
        self.points.iter().any(|point| point.place == place)
    }

    fn attach_paths(&mut self, plan: &mut Plan, entry: bool) -> Result<()> {
        for (number, planned) in plan.paths.iter_mut().enumerate() {
            let place = Place::of_path(number, entry);
            if planned.mechanism.is_err() || self.is_attached(place) {
                continue;
            }
            let cookie = cookie_of_path(number, &planned.path);
            let Ok(mechanism) = self.manners.mechanism_of(planned) else { continue };
            let attached = match (mechanism, self.attach_path(planned, mechanism, (number, entry), cookie)?) {
                // What the facts let expect the kernel may still refuse; the other ways need less of it.
                (Mechanism::Trampoline, Err(_)) => {
                    let other = without_trampoline(&planned.path);
                    self.attach_path(planned, other, (number, entry), cookie)?.map(|links| (other, links))
                }
                (mechanism, attached) => attached.map(|links| (mechanism, links)),
            };
            planned.mechanism = match attached {
                Ok((mechanism, links)) => {
                    let module = &planned.path.module;
                    self.points.extend(links.into_iter().map(|link| Point { place, module: module.clone(), link }));
                    Ok(mechanism)
                }
                Err(refusal) => Err(refusal),
            };
        }
        Ok(())
    }

    /// Tells the programs what the point at `address` is.
    fn name_point(&mut self, address: u64, cookie: u64) -> Result<()> {
        self.names_of_points()?.insert(address, cookie, 0).context("failed to name a point")
    }

    fn names_of_points(&mut self) -> Result<HashMap<&mut MapData, u64, u64>> {
        let map = self.bpf.map_mut(map::POINTS).ok_or_else(|| anyhow!("the BPF object has no map {}", map::POINTS))?;
        Ok(HashMap::try_from(map)?)
    }

    /// Attaches the entry of a path, or everything that returns from it.
    fn attach_path(
        &mut self,
        planned: &PlannedPath,
        mechanism: Mechanism,
        (number, entry): (usize, bool),
        cookie: u64,
    ) -> Result<Result<Vec<Link>, Refusal>> {
        let path = &planned.path;
        if mechanism == Mechanism::Trampoline {
            let program = match self.tracing.remove(&(number, entry)) {
                Some(Ok(program)) => program,
                Some(Err(error)) => return Ok(Err(refusal_of(&error))),
                None => return Ok(Err(refusal_of(&anyhow!("its program was not loaded")))),
            };
            let link = attach_tracing(program.as_fd(), !entry, cookie);
            self.programs.push(program);
            return Ok(link.map(|link| vec![link]).map_err(Refusal::from));
        }
        let (name, places, on_return) = points_of_path(path, mechanism, entry);
        let mut links = Vec::new();
        for &address in places {
            let has_name = self.manners.without_cookies && !on_return;
            let attached = match if has_name { self.name_point(address, cookie) } else { Ok(()) } {
                Ok(()) => self.attach_probe(name, address, on_return, cookie)?.map_err(Refusal::from),
                Err(error) => Err(refusal_of(&error)),
            };
            match attached {
                Ok(link) => links.push(link),
                Err(refusal) => {
                    self.take_names(places);
                    return Ok(Err(refusal));
                }
            }
        }
        Ok(Ok(links))
    }

    /// Loads a tracing program for `function`. A program is loaded for one function, so that each path has its own;
    /// aya holds one at a time, and our descriptor keeps those before.
    fn load_tracing(&mut self, function: &str, btf: &Btf, entry: bool) -> Result<OwnedFd> {
        let name = if entry { program::ENTER_FENTRY } else { program::LEAVE_FEXIT };
        let program = self.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
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
        for (name, address) in points_of_floor(places) {
            match self.attach_probe(name, address, false, 0)? {
                Ok(link) => links.push(link),
                Err(error) => log::info!("the floor is not measured at {address:#x}: the kernel refused: {error}"),
            }
        }
        Ok(links)
    }

    fn attach_sites(&mut self, plan: &mut Plan, ends: bool) -> Result<()> {
        let Plan { sites, paths, .. } = plan;
        for planned in sites.iter_mut().filter(|planned| planned.mechanism == Ok(Mechanism::CallSite)) {
            let manner = self.manners.of_site(&planned.site, paths);
            let SitePoints { program, place, addresses, cookie } = points_of_site(&planned.site, ends, manner);
            if self.is_attached(place) {
                continue;
            }
            for &address in addresses {
                match self.attach_probe(program, address, false, cookie)? {
                    Ok(link) => self.points.push(Point { place, module: planned.site.call.module.clone(), link }),
                    Err(error) => {
                        planned.mechanism = Err(error.into());
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Attaches program `name` at `address`. The inner error is the kernel's refusal of this point, the outer one means that
    /// no point of this kind can work.
    fn attach_probe(&mut self, name: &str, address: u64, on_return: bool, cookie: u64) -> Result<io::Result<Link>> {
        let event = self.opened.take(Wanted { address, on_return });
        let event = event.unwrap_or_else(|| self.pmu.open_event(address, on_return));
        let program = self.load_kprobe(name)?.fd()?.as_fd();
        Ok(event.and_then(|event| attach_event(event, program, address, cookie)))
    }

    /// Program `name`, which is loaded if it was not yet.
    fn load_kprobe(&mut self, name: &str) -> Result<&KProbe> {
        let program = self.bpf.program_mut(name).ok_or_else(|| anyhow!("no program {name}"))?;
        let program: &mut KProbe = program.try_into()?;
        if program.fd().is_err() {
            let loaded = despite_signals(|| program.load());
            loaded.with_context(|| format!("failed to load the BPF program {name}"))?;
            self.programs.push(program.fd()?.as_fd().try_clone_to_owned()?);
        }
        Ok(program)
    }
}

/// That a point could not be made, as the kernel's answer.
fn refusal_of(error: &anyhow::Error) -> Refusal {
    Refusal::Kernel { errno: errno_of(error.as_ref()), what: one_line(error) }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        self.take_away(|_| true);
    }
}
