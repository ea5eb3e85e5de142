//! The plan: a pure function from kernel facts and call sites to what is attached where, or why not.

use std::collections::BTreeMap;

use prefault_ebpf::{Config, MAX_PATHS};

mod config;
pub mod points;
mod refusal;

pub use self::refusal::{PlanError, Refusal, StartError, TooFewDescriptors};
pub use crate::data::Mechanism;
use crate::{
    data::{Code, Points, Problem, SiteReport},
    kernel::{Kernel, names::shown, types::cast_of},
    plan::{config::config_of, points::Place},
    sites::{FloorPlaces, NoPath, Operation, Path, Placing, Site, Sites, Target},
};

/// What to attach.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Constants for the programs.
    pub config: Config,
    /// BTF number of the kernel function that gives pointers types, if there is one.
    pub cast: Option<u32>,
    /// Write paths.
    pub paths: Vec<PlannedPath>,
    /// Call sites.
    pub sites: Vec<PlannedSite>,
    /// Measured functions, and whether they can be probed themselves.
    pub targets: Vec<PlannedTarget>,
    /// Where the floor can be measured.
    pub floor: FloorPlaces,
    /// Text that could not be searched: start and bytes.
    pub unread: Vec<(u64, u64)>,
    /// Kernel code is preempted, so that fentry and fexit would miss calls.
    pub preemptible: bool,
    /// Points that ftrace makes were switched off when the plan was made.
    pub ftrace_off: bool,
    /// Paths of the kernel are probed by fentry and fexit.
    trampolines: bool,
}

/// How points are wished to be made, where there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MechanismChoice {
    /// Whatever is exact, and of that the cheapest.
    #[default]
    Auto,
    /// Paths of the kernel by fentry and fexit; an error where these would miss calls.
    Fentry,
    /// Everything by kprobes, where the kernel can make jumps of them.
    Optimised,
    /// Everything by kprobes on the very instructions, which stay breakpoints.
    Trap,
}

impl MechanismChoice {
    /// Where the points are put.
    #[must_use]
    pub fn placing(self) -> Placing {
        if self == Self::Trap { Placing::Exact } else { Placing::Optimisable }
    }
}

/// A write path and how its entry and return are probed.
#[derive(Clone, Debug)]
pub struct PlannedPath {
    /// The path.
    pub path: Path,
    /// How, or why not.
    pub mechanism: Result<Mechanism, Refusal>,
}

/// A call site and how the call and the instruction behind it are probed.
#[derive(Clone, Debug)]
pub struct PlannedSite {
    /// The site.
    pub site: Site,
    /// How, or why not.
    pub mechanism: Result<Mechanism, Refusal>,
}

impl PlannedSite {
    /// Whether its operations belong to a write path.
    pub fn is_measured(&self) -> bool {
        self.mechanism.is_ok() && self.site.paths.is_ok()
    }

    /// Why its operations are counted as lost, if they are: its caller is not understood.
    pub fn not_understood(&self) -> Option<&NoPath> {
        self.mechanism.as_ref().ok()?;
        self.site.paths.as_ref().err()
    }

    /// Why it is not measured, or counted as lost; `None` if it is measured.
    pub fn problem(&self) -> Option<Problem> {
        match &self.mechanism {
            Err(refusal) => Some(refusal.problem()),
            Ok(_) => self.not_understood().map(NoPath::problem),
        }
    }
}

/// A measured function.
#[derive(Clone, Debug)]
pub struct PlannedTarget {
    /// The function.
    pub target: Target,
    /// The kernel may allow probing it directly: it has an ftrace location.
    pub traceable: bool,
}

impl Plan {
    /// Plans for `kernel`, whose call sites are `sites`, placed as `wish` says.
    ///
    /// # Errors
    /// [`PlanError`] if the programs could not interpret what they read on this kernel, or the wish cannot be fulfilled.
    pub fn new(kernel: &Kernel, sites: Sites, wish: MechanismChoice) -> Result<Self, PlanError> {
        let mut config = config_of(kernel.types.as_ref(), &sites.targets)?;
        let cast = cast_of(kernel.types.as_ref());
        config.types = cast.map_or_else(Default::default, |(_, types)| types);
        let preemptible = kernel.preemptible;
        let trampolines = match wish {
            MechanismChoice::Fentry if preemptible => return Err(PlanError::Preemptible),
            MechanismChoice::Fentry if kernel.ftrace_off => return Err(PlanError::FtraceOff),
            MechanismChoice::Auto | MechanismChoice::Fentry => !preemptible && !kernel.ftrace_off,
            MechanismChoice::Optimised | MechanismChoice::Trap => false,
        };
        let targets: Vec<PlannedTarget> =
            sites.targets.into_iter().map(|target| plan_target(target, kernel.ftrace_off)).collect();
        let paths: Vec<PlannedPath> = sites
            .paths
            .into_iter()
            .enumerate()
            .map(|(number, path)| plan_path(number, path, trampolines, kernel.ftrace_off))
            .collect();
        let sites_planned = sites
            .sites
            .into_iter()
            .map(|site| PlannedSite { mechanism: plan_site(&site, &paths, &targets), site })
            .collect();
        let cast = cast.map(|(function, _)| function);
        Ok(Self {
            config,
            cast,
            paths,
            sites: sites_planned,
            targets,
            floor: FloorPlaces::find(kernel),
            unread: sites.unread,
            preemptible,
            ftrace_off: kernel.ftrace_off,
            trampolines,
        })
    }

    /// Takes in what was found in modules that were loaded later. A path that is there again keeps its number.
    pub fn extend(&mut self, found: Self) {
        self.unread.extend(found.unread);
        let mut numbers = Vec::new();
        for planned in found.paths {
            let same = |known: &PlannedPath| {
                known.path.function == planned.path.function && known.path.module == planned.path.module
            };
            let number = match self.paths.iter().position(same) {
                Some(number) => {
                    // A path that is probed stays as it is: it has only been met again.
                    if self.paths[number].mechanism.is_err() {
                        self.paths[number] = plan_path(number, planned.path, self.trampolines, found.ftrace_off);
                    }
                    number
                }
                None => {
                    self.paths.push(plan_path(self.paths.len(), planned.path, self.trampolines, found.ftrace_off));
                    self.paths.len() - 1
                }
            };
            numbers.push(number);
        }
        for mut planned in found.sites {
            if let Ok(of_site) = &mut planned.site.paths {
                of_site.iter_mut().for_each(|number| *number = numbers[*number]);
            }
            planned.mechanism = plan_site(&planned.site, &self.paths, &self.targets);
            self.sites.retain(|known| known.site.call.address != planned.site.call.address);
            self.sites.push(planned);
        }
    }

    /// Marks everything in `module` as gone.
    pub fn forget(&mut self, module: &str) {
        let is_there = |of: &Option<String>| of.as_deref() == Some(module);
        self.sites.retain(|planned| !is_there(&planned.site.call.module));
        for planned in self.paths.iter_mut().filter(|planned| is_there(&planned.path.module)) {
            planned.mechanism = Err(Refusal::Unloaded(module.to_owned()));
        }
    }

    /// Refuses everything in `modules` that `is_attached` does not say to be.
    pub(super) fn refuse(&mut self, modules: &[String], why: &TooFewDescriptors, is_attached: impl Fn(Place) -> bool) {
        let is_meant = |of: &Option<String>| of.as_ref().is_some_and(|module| modules.contains(module));
        let refusal = || Err(Refusal::Descriptors(why.clone()));
        for (number, planned) in self.paths.iter_mut().enumerate() {
            if is_meant(&planned.path.module) && planned.mechanism.is_ok() && !is_attached(Place::Entry(number)) {
                planned.mechanism = refusal();
            }
        }
        for planned in self.sites.iter_mut().filter(|planned| planned.mechanism.is_ok()) {
            let call = &planned.site.call;
            let points = [Place::AfterCall(call.address), Place::Call(call.address)];
            if is_meant(&call.module) && !points.into_iter().any(&is_attached) {
                planned.mechanism = refusal();
            }
        }
    }

    /// Whether anything of `operation` is measured or to be measured.
    pub fn measures(&self, operation: Operation) -> bool {
        self.sites_of(operation).any(PlannedSite::is_measured)
    }

    /// Sites that are measured or to be measured.
    pub fn n_measured(&self) -> usize {
        self.sites.iter().filter(|planned| planned.is_measured()).count()
    }

    /// Why the first site of `operation` is not measured.
    pub fn first_refusal(&self, operation: Operation) -> Option<Problem> {
        self.sites_of(operation).find_map(PlannedSite::problem)
    }

    /// Callers that are not understood, each once: their operations are counted as lost.
    pub fn not_understood(&self) -> Vec<String> {
        self.strangers().into_keys().collect()
    }

    /// The same, and the code of what is not understood.
    fn strangers(&self) -> BTreeMap<String, Code> {
        let of = |planned: &PlannedSite| {
            let code = planned.not_understood()?.problem().code;
            Some((shown(&planned.site.call.caller).to_owned(), code))
        };
        self.sites.iter().filter_map(of).collect()
    }

    /// What is not measured and is no call site either, or is counted as lost.
    pub fn remarks(&self) -> Vec<Problem> {
        let not_understood = self.strangers().into_iter().map(|(caller, code)| {
            Problem::new(code)
                .what(format!("{caller} calls the prefault or the copy and is not understood"))
                .cause("its calls are counted as lost")
        });
        let unread = self.unread.iter().map(|(start, bytes)| {
            Problem::new(Code::Unread).what(format!("{bytes} bytes of text at {start:#x} could not be read"))
        });
        not_understood.chain(unread).collect()
    }

    fn sites_of(&self, operation: Operation) -> impl Iterator<Item = &PlannedSite> {
        self.sites.iter().filter(move |planned| planned.site.target.signature.operation == operation)
    }

    /// Names of the paths, by number.
    pub fn path_names(&self) -> Vec<String> {
        self.paths.iter().map(|planned| planned.path.function.clone()).collect()
    }

    /// Functions of the write paths that `planned` belongs to.
    pub(crate) fn paths_of(&self, planned: &PlannedSite) -> Vec<String> {
        let numbers = planned.site.paths.as_deref().unwrap_or_default();
        numbers.iter().map(|&number| self.paths[number].path.function.clone()).collect()
    }

    /// What became of every site; `points` says what the kernel has made of the points around a call.
    pub fn site_reports(&self, points: impl Fn(u64) -> Option<Points>) -> Vec<SiteReport> {
        let report = |planned: &PlannedSite| SiteReport {
            caller: shown(&planned.site.call.caller).to_owned(),
            offset: planned.site.call.offset(),
            target: planned.site.target.signature.name.to_owned(),
            operation: planned.site.target.signature.operation,
            module: planned.site.call.module.clone(),
            paths: self.paths_of(planned),
            attached: planned.is_measured(),
            mechanism: planned.mechanism.as_ref().ok().copied().filter(|_| planned.is_measured()),
            points: points(planned.site.call.address),
            why_not: why_not(planned),
            unattributed: planned.not_understood().is_some(),
        };
        self.sites.iter().map(report).collect()
    }

    /// Whether anything is attached, or to be attached, that ftrace makes.
    pub(super) fn depends_on_ftrace(&self) -> bool {
        let is_made = |mechanism: &Result<Mechanism, Refusal>| {
            matches!(mechanism, Ok(Mechanism::Trampoline | Mechanism::FunctionProbe))
        };
        self.paths.iter().any(|planned| is_made(&planned.mechanism))
            || self.sites.iter().any(|planned| is_made(&planned.mechanism))
    }

    /// Whether a path is probed by fentry and fexit.
    pub(super) fn has_trampolines(&self) -> bool {
        self.paths.iter().any(|planned| planned.mechanism == Ok(Mechanism::Trampoline))
    }

    /// Plans kprobes for the paths that have fentry and fexit; the result are their numbers.
    pub(super) fn leave_trampolines(&mut self) -> Vec<usize> {
        self.trampolines = false;
        let mut left = Vec::new();
        for (number, planned) in self.paths.iter_mut().enumerate() {
            if planned.mechanism == Ok(Mechanism::Trampoline) {
                planned.mechanism = Ok(without_trampoline(&planned.path));
                left.push(number);
            }
        }
        left
    }

    /// Leaves out the sites whose path is not probed: their operations would have no context.
    pub(super) fn drop_sites_without_path(&mut self) {
        let Self { paths, sites, .. } = self;
        for planned in sites.iter_mut().filter(|planned| planned.mechanism.is_ok()) {
            let numbers = planned.site.paths.as_deref().unwrap_or_default();
            if let Some(&number) = numbers.iter().find(|&&number| paths[number].mechanism.is_err()) {
                planned.mechanism = Err(Refusal::PathNotProbed(paths[number].path.function.clone()));
            }
        }
    }
}

/// Why a site is not measured, if it is not: a sentence for people.
fn why_not(planned: &PlannedSite) -> Option<String> {
    let problem = planned.problem()?;
    Some(match planned.not_understood() {
        Some(_) => format!("{}; its calls are counted as lost", problem.brief()),
        None => problem.to_string(),
    })
}

fn plan_target(target: Target, ftrace_off: bool) -> PlannedTarget {
    PlannedTarget { traceable: target.traceable == Some(true) && !ftrace_off, target }
}

fn plan_path(number: usize, path: Path, trampolines: bool, ftrace_off: bool) -> PlannedPath {
    let mechanism = if number >= MAX_PATHS as usize {
        Err(Refusal::TooManyPaths)
    } else if path.traceable == Some(false) {
        Err(Refusal::NotTraceable(path.function.clone()))
    } else if path.in_kernel_btf && trampolines {
        Ok(Mechanism::Trampoline)
    } else {
        match without_trampoline(&path) {
            Mechanism::FunctionProbe if ftrace_off => Err(Refusal::FtraceOff(path.function.clone())),
            mechanism => Ok(mechanism),
        }
    };
    PlannedPath { path, mechanism }
}

/// How a path is probed if fentry cannot be used.
pub(super) fn without_trampoline(path: &Path) -> Mechanism {
    if path.returns.is_some() { Mechanism::ReturnSites } else { Mechanism::FunctionProbe }
}

fn plan_site(site: &Site, paths: &[PlannedPath], targets: &[PlannedTarget]) -> Result<Mechanism, Refusal> {
    let numbers = match &site.paths {
        Ok(numbers) => numbers,
        Err(why @ NoPath::NotAWrite(_)) => return Err(Refusal::NoPath(why.clone())),
        // Whatever the caller is, what it calls is counted.
        Err(_) => return plan_call(site),
    };
    let refused = numbers.iter().map(|&number| &paths[number]).find(|planned| planned.mechanism.is_err());
    if let Some(planned) = refused {
        return Err(Refusal::PathNotProbed(planned.path.function.clone()));
    }
    if targets.iter().any(|planned| planned.target == site.target && planned.traceable) {
        return Ok(Mechanism::FunctionProbe);
    }
    plan_call(site)
}

fn plan_call(site: &Site) -> Result<Mechanism, Refusal> {
    if site.call.traceable == Some(false) {
        return Err(Refusal::NotTraceable(site.call.caller.clone()));
    }
    Ok(Mechanism::CallSite)
}
