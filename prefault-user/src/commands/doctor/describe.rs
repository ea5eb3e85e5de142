//! The plan as text, as `prefault doctor` prints it.

use std::{fmt::Write as _, time::Duration};

use crate::{
    bpf::{made::Made, own_writes},
    data::Silence,
    kernel::names::shown,
    output::units,
    plan::{Plan, PlannedPath, PlannedSite},
};

/// Adds something that stands in the way.
pub fn obstacle(text: &mut String, message: &str) {
    line(text, &format!("problem: {message}"));
}

/// Adds the conclusion.
pub fn verdict(text: &mut String, ready: bool) {
    line(text, if ready { "verdict: ready to measure" } else { "verdict: cannot measure here" });
}

/// Adds what the maps take.
pub fn memory(text: &mut String, bytes: u64, slots: u32) {
    line(text, &format!("memory: {} in the kernel, for {slots} filesystem slots", units::bytes(bytes)));
}

/// Adds that there are fewer slots than filesystems that are mounted, if it is so.
pub fn slots(text: &mut String, n_mounted: usize, slots: u32) {
    if n_mounted > slots as usize {
        let few = format!(
            "slots: {n_mounted} filesystems are mounted, and only the first {slots} that are written to are told apart: \
             raise --slots, or measure fewer with --fstype"
        );
        line(text, &few);
    }
}

/// Adds what measuring adds to a write of each of [`own_writes::SIZES`], which take so long without and with it.
pub fn cost(text: &mut String, without: own_writes::Times, with: own_writes::Times) {
    let of_size = |((size, without), with): ((usize, Duration), Duration)| {
        let [added, without] =
            [with.saturating_sub(without), without].map(|time| units::duration(time.as_nanos() as f64));
        format!("{added} on top of the {without} of a write of {}", units::bytes(size as u64))
    };
    let sizes: Vec<String> = own_writes::SIZES.into_iter().zip(without).zip(with).map(of_size).collect();
    line(text, &format!("cost: to memory, {}", sizes.join(", ")));
}

/// Adds that nothing can be timed, since the clock advances in steps of so many nanoseconds.
pub fn coarse_clock(text: &mut String, step_ns: u64) {
    let step = units::duration(step_ns as f64);
    line(
        text,
        &format!("clock: advances in steps of {step}, so that nothing is timed; writes are counted all the same"),
    );
}

/// What the kernel made of the kprobes, in the order of the plan.
#[derive(Debug, Default)]
pub struct Points {
    /// Of each path.
    pub paths: Vec<Vec<Made>>,
    /// Of each site.
    pub sites: Vec<Vec<Made>>,
}

/// Adds what is measured and how; `points` is empty if that is not known.
pub fn plan(text: &mut String, kernel: &str, plan: &Plan, points: &Points) {
    line(text, &format!("kernel: {kernel}"));
    let preemption = if plan.preemptible { "on: fentry and fexit would miss calls, and are not used" } else { "off" };
    line(text, &format!("preemption: {preemption}"));
    if plan.ftrace_off {
        line(
            text,
            &format!("ftrace: {}, and are not used; {}", Silence::FtraceOff.row().now, Silence::FtraceOff.row().remedy),
        );
    }
    line(text, "\nfunctions:");
    for planned in &plan.targets {
        let how = if planned.traceable { "probed itself" } else { "no ftrace location, probed at its calls" };
        let signature = planned.target.signature;
        line(text, &format!("  {:<9} {:<30} {how}", signature.operation.to_string(), signature.name));
    }
    line(text, "\nwrite paths:");
    let width = plan.paths.iter().map(|planned| place(planned).len()).max().unwrap_or(0);
    for (number, planned) in plan.paths.iter().enumerate() {
        let made = made(points.paths.get(number));
        line(text, &format!("  {:<width$}  {}{made}{}", place(planned), how(&planned.mechanism), role(planned)));
    }
    line(text, "\ncall sites:");
    let width = plan.sites.iter().map(|planned| site(planned).len()).max().unwrap_or(0);
    for (number, planned) in plan.sites.iter().enumerate() {
        let made = made(points.sites.get(number));
        let operation = planned.site.target.signature.operation;
        line(
            text,
            &format!("  {operation:<9} {:<width$}  {}{made}{}", site(planned), how(&planned.mechanism), notes(planned)),
        );
    }
    for remark in plan.remarks() {
        line(text, &format!("problem: {remark}"));
    }
    line(text, "");
}

fn line(text: &mut String, line: &str) {
    // Writing to a string does not fail.
    let _unused = writeln!(text, "{}", line.trim_end());
}

fn module_suffix(module: Option<&str>) -> String {
    module.map_or_else(String::new, |module| format!(" [{module}]"))
}

fn place(planned: &PlannedPath) -> String {
    format!("{}{}", planned.path.function, module_suffix(planned.path.module.as_deref()))
}

fn site(planned: &PlannedSite) -> String {
    let call = &planned.site.call;
    format!("{}+{:#x}{}", shown(&call.caller), call.offset(), module_suffix(call.module.as_deref()))
}

fn how<M: ToString, R: ToString>(mechanism: &Result<M, R>) -> String {
    match mechanism {
        Ok(mechanism) => mechanism.to_string(),
        Err(refusal) => format!("not probed: {}", refusal.to_string()),
    }
}

/// Such as `: jump, jump, trap`; nothing if nothing is known.
fn made(points: Option<&Vec<Made>>) -> String {
    match points {
        Some(points) if !points.is_empty() => {
            format!(": {}", points.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    }
}

fn role(planned: &PlannedPath) -> &'static str {
    if planned.path.copies { "" } else { "  (prefaults only: around another path, or direct I/O)" }
}

fn notes(planned: &PlannedSite) -> String {
    let mut notes = String::new();
    if let Some(why) = planned.not_understood() {
        notes.push_str(&format!("  ({why}; its calls are counted as lost)"));
    }
    if planned.site.call.probed {
        notes.push_str("  (another tool's probe is here too)");
    }
    if planned.site.call.redirected {
        notes.push_str("  (called through call depth tracking)");
    }
    notes
}

#[cfg(test)]
mod tests {
    use crate::commands::doctor::describe::slots;

    #[test]
    fn too_few_slots_are_said() {
        let said = |n_mounted, n_slots| {
            let mut text = String::new();
            slots(&mut text, n_mounted, n_slots);
            text
        };
        assert_eq!(said(64, 64), "");
        let text = said(65, 64);
        assert!(text.lines().count() == 1 && text.contains("65 filesystems") && text.contains("--slots"), "{text}");
    }
}
