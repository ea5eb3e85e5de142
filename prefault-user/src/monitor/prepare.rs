//! What every command that measures does first: look at the place, read the facts, make the plan.

use std::{io, panic::resume_unwind, path::Path, thread};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    bpf::{session::Groundwork, text_through_bpf},
    host::{environment::obstacles, limits},
    kernel::Kernel,
    phases::Phases,
    plan::{Plan, Wish},
    sites::Sites,
};

/// Where the running kernel shows itself.
pub const ROOT: &str = "/";

/// The plan for the running kernel, for which [`check`] has found nothing in the way.
///
/// # Errors
/// What cannot be read, or not be planned for.
pub fn plan(wish: Wish, phases: &Phases) -> Result<(String, Plan)> {
    let kernel = facts(phases)?;
    let sites = phases.measure("find call sites", || Sites::find(&kernel, wish.placing()))?;
    log::info!("found {} call sites", sites.sites.len());
    let plan = phases.measure("plan", || Plan::new(&kernel, sites, wish))?;
    Ok((kernel.release, plan))
}

/// The same, and what a session needs besides, for which there mostly is another processor.
///
/// # Errors
/// As [`plan`] and [`Groundwork::lay`].
pub fn plan_and_groundwork(wish: Wish, phases: &Phases) -> Result<(String, Plan, Groundwork)> {
    let lay = || phases.measure("lay the groundwork", Groundwork::lay);
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
pub fn plan_for_modules(modules: &[String], wish: Wish) -> Result<Plan> {
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
        text_through_bpf().with_context(|| {
            format!(
                "failed to read the text of the kernel (is it locked down?): /proc/kcore cannot be read ({why}), and \
                 BPF cannot either"
            )
        })
    })
}

/// Turns an error of starting to measure into one with a remedy. That of a point that was refused is text by then.
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    const REMEDIES: [(libc::c_int, &str); 3] = [
        (
            libc::EPERM,
            "is a capability missing, or BPF restricted by a security module, lockdown, or the seccomp profile of a container?",
        ),
        (libc::EMFILE, "allow more open files: `ulimit -n`, or LimitNOFILE= in its service"),
        (libc::ENOMEM, "fewer --slots take less memory, 4.9 KiB each for each processor"),
    ];
    let said = format!("{error:#}");
    let is_said = |&&(code, _): &&(libc::c_int, _)| said.contains(&io::Error::from_raw_os_error(code).to_string());
    let Some(&(code, remedy)) = REMEDIES.iter().find(is_said) else { return error };
    let memlock = if code == libc::EPERM { limits::memlock_remedy() } else { None };
    let more = memlock.map_or_else(String::new, |more| format!(" Or: {more}"));
    anyhow!("{said}; {remedy}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_errors_have_a_remedy_and_the_rest_stays_as_it_is() {
        let not_permitted = || io::Error::from_raw_os_error(libc::EPERM);
        for error in [
            anyhow::Error::new(not_permitted()).context("failed to load"),
            anyhow!("no call could be probed: the kernel refused: {}", not_permitted()),
        ] {
            assert!(explain(error).to_string().contains("the seccomp profile of a container?"));
        }
        let too_many = anyhow::Error::new(io::Error::from_raw_os_error(libc::EMFILE)).context("failed to load");
        assert!(explain(too_many).to_string().contains("LimitNOFILE="));
        let no_memory = anyhow::Error::new(io::Error::from_raw_os_error(libc::ENOMEM)).context("failed to map LEDGERS");
        assert!(explain(no_memory).to_string().contains("fewer --slots"));
        assert_eq!(explain(anyhow!("no BTF")).to_string(), "no BTF");
    }
}
