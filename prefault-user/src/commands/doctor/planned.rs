//! The plan as a part of the diagnosis.

use serde::Serialize;

use crate::{
    bpf::made::KprobeKind,
    data::{Mechanism, Operation, Problem},
    kernel::names::shown,
    plan::{Plan, PlannedPath, PlannedSite, PlannedTarget},
};

/// What is measured and how.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Kernel code is preempted, so that fentry and fexit would miss calls.
    pub preemptible: bool,
    /// Points that ftrace makes are switched off.
    pub ftrace_off: bool,
    /// The two measured functions.
    pub functions: Vec<Function>,
    /// Write paths.
    pub paths: Vec<Path>,
    /// Calls of the two functions.
    pub sites: Vec<Site>,
}

/// A measured function.
#[derive(Clone, Debug, Serialize)]
pub struct Function {
    /// What it does.
    pub operation: Operation,
    /// Its name.
    pub name: &'static str,
    /// It is probed itself, and not at its calls.
    pub traceable: bool,
}

/// A write path.
#[derive(Clone, Debug, Serialize)]
pub struct Path {
    /// Its name.
    pub function: String,
    /// Its module, `None` for the kernel.
    pub module: Option<String>,
    /// Whether it copies; one that does not is around another path, or does direct I/O.
    pub copies: bool,
    /// By what it is probed, `None` if it is not.
    pub mechanism: Option<Mechanism>,
    /// Why it is not probed, `None` if it is.
    pub refusal: Option<Problem>,
    /// What the kernel made of its kprobes, in the order of the plan; `None` if there are none or it does not say.
    pub points: Option<Vec<KprobeKind>>,
}

/// A call of a measured function.
#[derive(Clone, Debug, Serialize)]
pub struct Site {
    /// The function that the call is in.
    pub caller: String,
    /// Bytes from its start to the call.
    pub offset: u64,
    /// Its module, `None` for the kernel.
    pub module: Option<String>,
    /// The function that is called.
    pub target: &'static str,
    /// What that does.
    pub operation: Operation,
    /// Functions of the write paths it belongs to.
    pub paths: Vec<String>,
    /// By what it is probed, `None` if it is not.
    pub mechanism: Option<Mechanism>,
    /// Why it is not probed, or counted as lost; `None` if it is measured.
    pub refusal: Option<Problem>,
    /// It is probed, and what it counts is counted as lost: its caller is not understood.
    pub unattributed: bool,
    /// What the kernel made of its kprobes; `None` if there are none or it does not say.
    pub points: Option<Vec<KprobeKind>>,
    /// Another tool has a probe there.
    pub probed_by_another: bool,
    /// The call goes through call depth tracking.
    pub redirected: bool,
}

/// What the kernel made of the kprobes, in the order of the plan.
#[derive(Debug, Default)]
pub struct Points {
    /// Of each path.
    pub paths: Vec<Vec<KprobeKind>>,
    /// Of each site.
    pub sites: Vec<Vec<KprobeKind>>,
}

impl Planned {
    /// Of a plan; `points` is empty if what the kernel made of it is not known.
    #[must_use]
    pub fn new(plan: &Plan, points: &Points) -> Self {
        let made = |points: Option<&Vec<KprobeKind>>| points.filter(|points| !points.is_empty()).cloned();
        let paths = plan.paths.iter().enumerate();
        let sites = plan.sites.iter().enumerate();
        Self {
            preemptible: plan.preemptible,
            ftrace_off: plan.ftrace_off,
            functions: plan.targets.iter().map(function).collect(),
            paths: paths.map(|(number, planned)| path(planned, made(points.paths.get(number)))).collect(),
            sites: sites.map(|(number, planned)| site(plan, planned, made(points.sites.get(number)))).collect(),
        }
    }
}

fn function(planned: &PlannedTarget) -> Function {
    let signature = planned.target.signature;
    Function { operation: signature.operation, name: signature.name, traceable: planned.traceable }
}

fn path(planned: &PlannedPath, points: Option<Vec<KprobeKind>>) -> Path {
    Path {
        function: planned.path.function.clone(),
        module: planned.path.module.clone(),
        copies: planned.path.copies,
        mechanism: planned.mechanism.as_ref().ok().copied(),
        refusal: planned.mechanism.as_ref().err().map(|refusal| refusal.problem()),
        points,
    }
}

fn site(plan: &Plan, planned: &PlannedSite, points: Option<Vec<KprobeKind>>) -> Site {
    let call = &planned.site.call;
    Site {
        caller: shown(&call.caller).to_owned(),
        offset: call.offset(),
        module: call.module.clone(),
        target: planned.site.target.signature.name,
        operation: planned.site.target.signature.operation,
        paths: plan.paths_of(planned),
        mechanism: planned.mechanism.as_ref().ok().copied(),
        refusal: planned.problem(),
        unattributed: planned.not_understood().is_some(),
        points,
        probed_by_another: call.probed,
        redirected: call.redirected,
    }
}
