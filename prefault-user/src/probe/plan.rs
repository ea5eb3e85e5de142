//! The plan: a pure function from kernel facts and call sites to what is attached where, or why not.

use std::fmt;

use prefault_ebpf::{Config, MAX_PATHS};

use super::{limits::TooFewDescriptors, points::Place};
use crate::{
    data::{Points, SiteReport},
    kernel::{
        Kernel,
        types::{Types, USER_ITER_TYPES, cast_of, offsets_of},
    },
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
    /// Paths of the kernel are probed by fentry and fexit.
    trampolines: bool,
}

/// How points are wished to be made, where there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
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

impl Wish {
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

/// A measured function.
#[derive(Clone, Debug)]
pub struct PlannedTarget {
    /// The function.
    pub target: Target,
    /// The kernel may allow probing it directly: it has an ftrace location.
    pub traceable: bool,
}

/// How a pair of points is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// fentry and fexit.
    Trampoline,
    /// A kprobe on the function, and one on each instruction that returns from it.
    ReturnSites,
    /// kprobe and kretprobe on the function.
    FunctionProbe,
    /// kprobes on the call and on the instruction behind it.
    CallSite,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trampoline => "fentry/fexit",
            Self::ReturnSites => "kprobe/kprobe on return",
            Self::FunctionProbe => "kprobe/kretprobe",
            Self::CallSite => "kprobe",
        })
    }
}

/// Why something is not attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The function has no ftrace location.
    #[error(
        "{0} has no ftrace location, and the kernel refuses probes in such functions (CONFIG_KPROBE_EVENTS_ON_NOTRACE)"
    )]
    NotTraceable(String),
    /// The site is not part of a write path.
    #[error("{0}")]
    NoPath(NoPath),
    /// More paths than the programs can tell apart.
    #[error("more than {MAX_PATHS} write paths")]
    TooManyPaths,
    /// The path it belongs to is not probed.
    #[error("its write path {0} is not probed")]
    PathNotProbed(String),
    /// Its module was unloaded.
    #[error("the module {0} was unloaded")]
    Unloaded(String),
    /// Too few descriptors for it.
    #[error("{0}")]
    Descriptors(TooFewDescriptors),
    /// The kernel refused the attachment.
    #[error("the kernel refused: {0}")]
    Kernel(String),
}

/// Why no plan can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A structure member is missing in BTF.
    #[error(
        "the BTF of this kernel has no {0}: the tool has to learn what became of it, please report the kernel's release"
    )]
    NoMember(String),
    /// No enumerator of user memory in BTF.
    #[error(
        "the BTF of this kernel does not say which iov_iter types are user memory: please report the kernel's release"
    )]
    NoIterTypes,
    /// fentry was asked for where it is not exact.
    #[error(
        "--mechanism fentry would miss calls: this kernel preempts kernel code, and skips a program that another task of \
         the same processor is in; use auto"
    )]
    Preemptible,
}

impl Plan {
    /// Plans for `kernel`, whose call sites are `sites`, placed as `wish` says.
    ///
    /// # Errors
    /// [`PlanError`] if the programs could not interpret what they read on this kernel, or the wish cannot be fulfilled.
    pub fn new(kernel: &Kernel, sites: Sites, wish: Wish) -> Result<Self, PlanError> {
        let mut config = config_of(kernel.types.as_ref(), &sites.targets)?;
        let cast = cast_of(kernel.types.as_ref());
        config.types = cast.map_or_else(Default::default, |(_, types)| types);
        let preemptible = kernel.preemptible;
        let trampolines = match wish {
            Wish::Fentry if preemptible => return Err(PlanError::Preemptible),
            Wish::Auto | Wish::Fentry => !preemptible,
            Wish::Optimised | Wish::Trap => false,
        };
        let targets: Vec<PlannedTarget> = sites.targets.into_iter().map(plan_target).collect();
        let paths: Vec<PlannedPath> =
            sites.paths.into_iter().enumerate().map(|(number, path)| plan_path(number, path, trampolines)).collect();
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
            trampolines,
        })
    }

    /// Takes in what was found in modules that were loaded later. A path that is there again keeps its number.
    pub fn extend(&mut self, found: Self) {
        let mut numbers = Vec::new();
        for planned in found.paths {
            let same = |known: &PlannedPath| {
                known.path.function == planned.path.function && known.path.module == planned.path.module
            };
            let number = match self.paths.iter().position(same) {
                Some(number) => {
                    // A path that is probed stays as it is: it has only been met again.
                    if self.paths[number].mechanism.is_err() {
                        self.paths[number] = plan_path(number, planned.path, self.trampolines);
                    }
                    number
                }
                None => {
                    self.paths.push(plan_path(self.paths.len(), planned.path, self.trampolines));
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
            if is_meant(&call.module) && !is_attached(Place::AfterCall(call.address)) {
                planned.mechanism = refusal();
            }
        }
    }

    /// Whether anything of `operation` is attached or to be attached.
    pub fn measures(&self, operation: Operation) -> bool {
        self.sites_of(operation).any(|planned| planned.mechanism.is_ok())
    }

    /// Sites that are attached or to be attached.
    pub fn n_measured(&self) -> usize {
        self.sites.iter().filter(|planned| planned.mechanism.is_ok()).count()
    }

    /// Why the first site of `operation` is not attached.
    pub fn first_refusal(&self, operation: Operation) -> String {
        let refusal = self.sites_of(operation).find_map(|planned| planned.mechanism.as_ref().err());
        refusal.map_or_else(|| "no call of it was found".to_owned(), ToString::to_string)
    }

    fn sites_of(&self, operation: Operation) -> impl Iterator<Item = &PlannedSite> {
        self.sites.iter().filter(move |planned| planned.site.target.signature.operation == operation)
    }

    /// Names of the paths, by number.
    pub fn path_names(&self) -> Vec<String> {
        self.paths.iter().map(|planned| planned.path.function.clone()).collect()
    }

    fn paths_of(&self, planned: &PlannedSite) -> Vec<String> {
        let numbers = planned.site.paths.as_deref().unwrap_or_default();
        numbers.iter().map(|&number| self.paths[number].path.function.clone()).collect()
    }

    /// What became of every site; `points` says what the kernel has made of the points around a call.
    pub fn site_reports(&self, points: impl Fn(u64) -> Option<Points>) -> Vec<SiteReport> {
        let report = |planned: &PlannedSite| SiteReport {
            caller: planned.site.call.caller.clone(),
            offset: planned.site.call.offset(),
            target: planned.site.target.signature.name.to_owned(),
            operation: planned.site.target.signature.operation.to_string(),
            module: planned.site.call.module.clone(),
            paths: self.paths_of(planned),
            attached: planned.mechanism.is_ok(),
            mechanism: planned.mechanism.as_ref().ok().map(ToString::to_string),
            points: points(planned.site.call.address),
            why_not: planned.mechanism.as_ref().err().map(ToString::to_string),
        };
        self.sites.iter().map(report).collect()
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

fn plan_target(target: Target) -> PlannedTarget {
    PlannedTarget { traceable: target.traceable == Some(true), target }
}

fn plan_path(number: usize, path: Path, trampolines: bool) -> PlannedPath {
    let mechanism = if number >= MAX_PATHS as usize {
        Err(Refusal::TooManyPaths)
    } else if path.traceable == Some(false) {
        Err(Refusal::NotTraceable(path.function.clone()))
    } else if path.in_kernel_btf && trampolines {
        Ok(Mechanism::Trampoline)
    } else {
        Ok(without_trampoline(&path))
    };
    PlannedPath { path, mechanism }
}

/// How a path is probed if fentry cannot be used.
pub(super) fn without_trampoline(path: &Path) -> Mechanism {
    if path.returns.is_some() { Mechanism::ReturnSites } else { Mechanism::FunctionProbe }
}

fn plan_site(site: &Site, paths: &[PlannedPath], targets: &[PlannedTarget]) -> Result<Mechanism, Refusal> {
    let numbers = site.paths.as_ref().map_err(|why| Refusal::NoPath(why.clone()))?;
    let refused = numbers.iter().map(|&number| &paths[number]).find(|planned| planned.mechanism.is_err());
    if let Some(planned) = refused {
        return Err(Refusal::PathNotProbed(planned.path.function.clone()));
    }
    if targets.iter().any(|planned| planned.target == site.target && planned.traceable) {
        return Ok(Mechanism::FunctionProbe);
    }
    if site.call.traceable == Some(false) {
        return Err(Refusal::NotTraceable(site.call.caller.clone()));
    }
    Ok(Mechanism::CallSite)
}

fn config_of(types: &dyn Types, targets: &[Target]) -> Result<Config, PlanError> {
    let offsets = offsets_of(types).map_err(PlanError::NoMember)?;
    let [ubuf, iovec] = USER_ITER_TYPES.map(|name| types.enumerator(name));
    if ubuf.is_none() && iovec.is_none() {
        return Err(PlanError::NoIterTypes);
    }
    let bit = |value: Option<u32>| value.map_or(0, |value| 1 << (value & 31));
    let mut config = Config {
        offsets,
        user_iter_types: bit(ubuf) | bit(iovec),
        ubuf_iter_type: ubuf.unwrap_or(u32::MAX),
        // Before 5.14 the types are flags above the direction (include/linux/uio.h, enum iter_type of 5.10).
        iter_type_ignored: u32::from(types.member_offset("iov_iter", "iter_type").is_none()),
        ..Config::default()
    };
    for target in targets {
        match target.signature.operation {
            Operation::Prefault => config.prefault_returns_errno = u32::from(target.signature.returns_errno),
            Operation::Copy => {
                config.copy_bytes_argument = target.signature.bytes_argument;
                config.copy_iter_argument = target.signature.iter_argument;
                config.copy_keeps_iter = u32::from(target.signature.keeps_iter);
            }
        }
    }
    Ok(config)
}
