//! The plan as it was tried, with what the kernel made of it and what it costs.

use std::{collections::HashMap, io, time::Duration};

use anyhow::Result;

use super::{
    diagnosis::{Cost, Diagnosis},
    planned::Points,
};
use crate::{
    bpf::{
        descriptors,
        made::{self, KprobeKind},
        own_writes,
        session::{Options, Session},
    },
    cli::DoctorArgs,
    data::{Code, Problem},
    monitor::{options::wish, prepare},
    phases::Phases,
    plan::Plan,
};

/// A plan, and what became of it.
pub struct Tried {
    plan: Plan,
    /// What was tried of it, `None` if nothing was.
    outcome: Option<Outcome>,
}

/// What came of trying a plan.
struct Outcome {
    /// What the kernel made of it.
    points: io::Result<Points>,
    /// What the maps took.
    map_bytes: u64,
    /// How long writes took without and with it.
    times: io::Result<[own_writes::Times; 2]>,
}

impl Tried {
    /// Takes it into the diagnosis.
    pub fn complete(self, diagnosis: Diagnosis) -> Diagnosis {
        let Some(Outcome { points, map_bytes, times }) = self.outcome else {
            return diagnosis.with_plan(&self.plan, &Points::default());
        };
        let mut remarks = Vec::new();
        let points = points.unwrap_or_else(|error| {
            let cause = format!("failed to read {}: {error}", made::KPROBES);
            remarks.push(Problem::new(Code::PointsNotShown).cause(cause).errno(error.raw_os_error()));
            Points::default()
        });
        let mut diagnosis = diagnosis.with_plan(&self.plan, &points);
        // A clock that times nothing knows nothing of this either.
        diagnosis.cost = match times {
            Ok(times) => diagnosis.clock_step_ns.is_none().then(|| costs(times)),
            Err(error) => {
                let cause = format!("failed to write: {error}");
                remarks.push(Problem::new(Code::CostNotShown).cause(cause).errno(error.raw_os_error()));
                None
            }
        };
        diagnosis.remarks.append(&mut remarks);
        diagnosis.memory_bytes = Some(map_bytes);
        diagnosis
    }
}

fn costs([without, with]: [own_writes::Times; 2]) -> Vec<Cost> {
    let of_size = |((size, without), with): ((usize, Duration), Duration)| Cost {
        write_bytes: size as u64,
        without_ns: without.as_nanos() as u64,
        added_ns: with.saturating_sub(without).as_nanos() as u64,
    };
    own_writes::SIZES.into_iter().zip(without).zip(with).map(of_size).collect()
}

/// The plan after it was tried, which attaches and detaches everything.
pub fn attached_plan(args: &DoctorArgs) -> Result<Tried> {
    let (wish, phases) = (wish(args.mechanism), Phases::begin());
    if args.dry_run {
        let (_, plan) = prepare::plan(wish, &phases)?;
        descriptors::ensure_for(&plan)?;
        return Ok(Tried { plan, outcome: None });
    }
    let (_, plan, groundwork) = prepare::plan_and_groundwork(wish, &phases)?;
    let options = Options { slots: args.slots, wish, ..Options::default() };
    let without = own_writes::time();
    let session = Session::start(plan, groundwork, &options, &phases);
    let session = session.map_err(prepare::explain)?;
    let points = made::kprobes().map(|kprobes| points(&session, &kprobes));
    // Now the kernel has made of the probes what it makes of them.
    let times = without.and_then(|without| Ok([without, own_writes::time()?]));
    let outcome = Outcome { points, map_bytes: session.map_bytes()?, times };
    Ok(Tried { plan: session.plan().clone(), outcome: Some(outcome) })
}

/// What became of the points of each path and each site.
fn points(session: &Session, kprobes: &HashMap<u64, KprobeKind>) -> Points {
    let made = |addresses: Vec<u64>| addresses.iter().filter_map(|address| kprobes.get(address).copied()).collect();
    let plan = session.plan();
    Points {
        paths: (0..plan.paths.len()).map(|path| made(session.kprobes_of_path(path))).collect(),
        sites: plan.sites.iter().map(|planned| made(session.kprobes_of_site(planned.site.call.address))).collect(),
    }
}
