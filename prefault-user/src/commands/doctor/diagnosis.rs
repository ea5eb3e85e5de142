//! What `prefault doctor` finds out, as one value: the text and the JSON document both come from it. docs/format.md describes each field.

use serde::Serialize;

use super::planned::{Planned, Points};
use crate::{
    data::{Code, Problem},
    output::units,
    plan::Plan,
};

/// Version of the document. It rises when a field goes or means something else.
pub const FORMAT_VERSION: u32 = 1;

/// What can be measured here and how, what is missing, and what it costs.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the tool.
    pub version: &'static str,
    /// Release of the kernel, as `uname -r` prints it; `None` if it cannot be read.
    pub kernel: Option<String>,
    /// Whether the main job can run.
    pub ready: bool,
    /// What keeps it from running, the first thing to mend first.
    pub obstacles: Vec<Problem>,
    /// What is left out, or not known.
    pub remarks: Vec<Problem>,
    /// What is measured and how; `None` if there are obstacles.
    pub plan: Option<Planned>,
    /// What the maps take; `None` if nothing was tried.
    pub memory_bytes: Option<u64>,
    /// Filesystems that can be told apart, and that there are.
    pub slots: Slots,
    /// The step of a clock that is too coarse to time anything, in nanoseconds; `None` if it can.
    pub clock_step_ns: Option<u64>,
    /// What measuring adds to a write, by size; `None` if nothing was tried or it cannot be known.
    pub cost: Option<Vec<Cost>>,
}

/// Filesystems.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Slots {
    /// That can be told apart, as `--slots` says.
    pub available: u32,
    /// That are mounted on the host, or here if those of the host are hidden; 0 if neither is shown.
    pub mounted: u64,
}

/// How long a write to memory takes without points, and how much longer with them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Size of the write.
    pub write_bytes: u64,
    /// Median without points, in nanoseconds.
    pub without_ns: u64,
    /// By how much the median with points is longer.
    pub added_ns: u64,
}

impl Diagnosis {
    /// Of a place where nothing was planned yet.
    #[must_use]
    pub fn new(kernel: Option<String>, slots: Slots, clock_step_ns: Option<u64>) -> Self {
        let clock = |step_ns| {
            let step = units::duration(step_ns as f64);
            Problem::new(Code::CoarseClock).what(format!("this machine's clock advances in steps of {step}"))
        };
        let few = (slots.mounted > u64::from(slots.available)).then(|| {
            Problem::new(Code::FewSlots)
                .what(format!("{} filesystems are mounted", slots.mounted))
                .cause(format!("only the first {} that are written to are told apart", slots.available))
        });
        Self {
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            kernel,
            ready: false,
            obstacles: Vec::new(),
            remarks: few.into_iter().chain(clock_step_ns.map(clock)).collect(),
            plan: None,
            memory_bytes: None,
            slots,
            clock_step_ns,
            cost: None,
        }
    }

    /// Takes in a plan that can be carried out; `points` is empty if what the kernel made of it is not known.
    #[must_use]
    pub fn with_plan(mut self, plan: &Plan, points: &Points) -> Self {
        self.ready = true;
        self.remarks.extend(plan.ftrace_off.then(|| Problem::new(Code::FtraceOff)));
        self.remarks.extend(plan.remarks());
        self.plan = Some(Planned::new(plan, points));
        self
    }

    /// The remarks with one of `codes`.
    pub fn remarks_of(&self, codes: &[Code]) -> impl Iterator<Item = &Problem> {
        self.remarks.iter().filter(|remark| codes.contains(&remark.code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_slots_are_said() {
        let said = |mounted| Diagnosis::new(None, Slots { available: 64, mounted }, None).remarks;
        assert_eq!(said(64), []);
        let text = said(65)[0].line();
        assert!(text.contains("65 filesystems") && text.contains("--slots"), "{text}");
    }
}
