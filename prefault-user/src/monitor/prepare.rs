//! What every command that measures does first: look at the place, read the facts, make the plan.

use std::{panic::resume_unwind, path::Path, thread};

use anyhow::Result;

use super::problems::NoText;
pub use super::problems::explain;
use crate::{
    bpf::{session::Preloaded, text_through_bpf},
    host::environment::obstacles,
    kernel::Kernel,
    phases::Phases,
    plan::{MechanismChoice, Plan},
    sites::Sites,
};

/// Where the running kernel shows itself.
pub const ROOT: &str = "/";

/// The plan for the running kernel, for which [`check`] has found nothing in the way.
///
/// # Errors
/// What cannot be read, or not be planned for.
pub fn plan(wish: MechanismChoice, phases: &Phases) -> Result<(String, Plan)> {
    let kernel = facts(phases)?;
    let sites = phases.measure("find call sites", || Sites::find(&kernel, wish.placing()))?;
    log::info!("found {} call sites", sites.sites.len());
    let plan = phases.measure("plan", || Plan::new(&kernel, sites, wish))?;
    Ok((kernel.release, plan))
}

/// The same, and what a session needs besides, for which there mostly is another processor.
///
/// # Errors
/// As [`plan`] and [`Preloaded::prepare`].
pub fn plan_and_groundwork(wish: MechanismChoice, phases: &Phases) -> Result<(String, Plan, Preloaded)> {
    let lay = || phases.measure("lay the groundwork", Preloaded::prepare);
    let (planned, laid) = thread::scope(|scope| {
        let laying = thread::Builder::new().spawn_scoped(scope, lay);
        let planned = plan(wish, phases);
        // Where there may be no further thread, one thing comes after the other.
        let laid = laying.map_or_else(|_| lay(), |laying| laying.join().unwrap_or_else(|panic| resume_unwind(panic)));
        (planned, laid)
    });
    let (kernel, plan) = planned.map_err(explain)?;
    Ok((kernel, plan, laid.map_err(explain)?))
}

/// Looks at the place.
///
/// # Errors
/// The first thing that stands in the way.
pub fn check() -> Result<()> {
    match obstacles(Path::new(ROOT)).into_iter().next() {
        Some(obstacle) => Err(obstacle.into()),
        None => Ok(()),
    }
}

/// The plan for modules that were loaded since.
///
/// # Errors
/// What cannot be read.
pub fn plan_for_modules(modules: &[String], wish: MechanismChoice) -> Result<Plan> {
    let phases = Phases::begin();
    let kernel = facts(&phases)?;
    let sites = Sites::find_in_modules(&kernel, modules, wish.placing())?;
    log::info!("found {} call sites in {}", sites.sites.len(), modules.join(", "));
    Ok(Plan::new(&kernel, sites, wish)?)
}

/// The facts of the running kernel.
///
/// # Errors
/// What cannot be read, and the remedy.
pub fn facts(phases: &Phases) -> Result<Kernel> {
    Kernel::read(Path::new(ROOT), phases, |why| {
        log::info!("reading kernel text through BPF: /proc/kcore cannot be read ({why})");
        text_through_bpf().map_err(|bpf| NoText { kcore: why, bpf }.into())
    })
}
