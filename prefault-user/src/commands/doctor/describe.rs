//! The diagnosis as text for people.

use std::fmt::Write as _;

use super::{
    diagnosis::{Cost, Diagnosis},
    planned::{Path, Planned, Site},
};
use crate::{
    bpf::made::KprobeKind,
    data::{Code, Mechanism, Problem},
    output::units,
};

/// The whole of it.
#[must_use]
pub fn text(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for obstacle in &diagnosis.obstacles {
        line(&mut text, &format!("problem: {}", obstacle.line()));
    }
    if diagnosis.plan.is_some() {
        text.push_str(&plan(diagnosis));
        if let Some(bytes) = diagnosis.memory_bytes {
            let (bytes, slots) = (units::bytes(bytes), diagnosis.slots.available);
            line(&mut text, &format!("memory: {bytes} in the kernel, for {slots} filesystem slots"));
        }
        remarks(&mut text, "slots", diagnosis.remarks_of(&[Code::FewSlots]));
        remarks(&mut text, "clock", diagnosis.remarks_of(&[Code::CoarseClock]));
        if let Some(costs) = &diagnosis.cost {
            line(&mut text, &cost(costs));
        }
    }
    line(&mut text, if diagnosis.ready { "verdict: ready to measure" } else { "verdict: cannot measure here" });
    text
}

/// What is measured and how; nothing without a plan.
#[must_use]
pub fn plan(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    let Some(Planned { preemptible, functions, paths, sites, .. }) = &diagnosis.plan else { return text };
    line(&mut text, &format!("kernel: {}", diagnosis.kernel.as_deref().unwrap_or("unknown")));
    let preemption = if *preemptible { "on: fentry and fexit would miss calls, and are not used" } else { "off" };
    line(&mut text, &format!("preemption: {preemption}"));
    remarks(&mut text, "ftrace", diagnosis.remarks_of(&[Code::FtraceOff]));
    line(&mut text, "\nfunctions:");
    for function in functions {
        let how = if function.traceable { "probed itself" } else { "no ftrace location, probed at its calls" };
        line(&mut text, &format!("  {:<9} {:<30} {how}", function.operation, function.name));
    }
    line(&mut text, "\nwrite paths:");
    let width = paths.iter().map(|path| place(path).len()).max().unwrap_or(0);
    for path in paths {
        let (how, made) = (how(path.mechanism, path.refusal.as_ref()), made(path.points.as_deref()));
        line(&mut text, &format!("  {:<width$}  {how}{made}{}", place(path), role(path)));
    }
    line(&mut text, "\ncall sites:");
    let width = sites.iter().map(|site| call(site).len()).max().unwrap_or(0);
    for site in sites {
        let (how, made) = (how(site.mechanism, site.refusal.as_ref()), made(site.points.as_deref()));
        line(&mut text, &format!("  {:<9} {:<width$}  {how}{made}{}", site.operation, call(site), notes(site)));
    }
    remarks(&mut text, "problem", diagnosis.remarks_of(&[Code::NotUnderstood, Code::NotDescribed, Code::Unread]));
    line(&mut text, "");
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _unused = writeln!(text, "{}", line.trim_end());
}

fn remarks<'a>(text: &mut String, about: &str, remarks: impl Iterator<Item = &'a Problem>) {
    remarks.for_each(|remark| line(text, &format!("{about}: {}", remark.line())));
}

fn cost(costs: &[Cost]) -> String {
    let of_size = |cost: &Cost| {
        let [added, without] = [cost.added_ns, cost.without_ns].map(|ns| units::duration(ns as f64));
        format!("{added} on top of the {without} of a write of {}", units::bytes(cost.write_bytes))
    };
    format!("cost: to memory, {}", costs.iter().map(of_size).collect::<Vec<_>>().join(", "))
}

fn module_suffix(module: Option<&str>) -> String {
    module.map_or_else(String::new, |module| format!(" [{module}]"))
}

fn place(path: &Path) -> String {
    format!("{}{}", path.function, module_suffix(path.module.as_deref()))
}

fn call(site: &Site) -> String {
    format!("{}+{:#x}{}", site.caller, site.offset, module_suffix(site.module.as_deref()))
}

fn how(mechanism: Option<Mechanism>, refusal: Option<&Problem>) -> String {
    match (mechanism, refusal) {
        (Some(mechanism), _) => mechanism.to_string(),
        (None, Some(refusal)) => format!("not probed: {}", refusal.line()),
        (None, None) => "not probed".to_owned(),
    }
}

/// Such as `: jump, jump, trap`; nothing if nothing is known.
fn made(points: Option<&[KprobeKind]>) -> String {
    let points = points.unwrap_or_default();
    if points.is_empty() {
        return String::new();
    }
    format!(": {}", points.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn role(path: &Path) -> &'static str {
    if path.copies { "" } else { "  (prefaults only: around another path, or direct I/O)" }
}

fn notes(site: &Site) -> String {
    let mut notes = String::new();
    if let Some(why) = site.refusal.as_ref().filter(|_| site.unattributed) {
        notes.push_str(&format!("  ([{}] {}; its calls are counted as lost)", why.code, why.brief()));
    }
    if site.probed_by_another {
        notes.push_str("  (another tool's probe is here too)");
    }
    if site.redirected {
        notes.push_str("  (called through call depth tracking)");
    }
    notes
}
