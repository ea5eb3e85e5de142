//! `prefault doctor`: what can be measured here and how, what is missing, and the remedy.

pub mod describe;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use anyhow::Result;

use self::describe::Points;
use crate::{
    bpf::{
        descriptors,
        made::{self, Made},
        own_writes,
        session::{Options, Session},
    },
    cli::DoctorArgs,
    data::Timing,
    host::{clock::usable, environment::obstacles},
    kernel::{
        Kernel,
        frozen::{Frozen, Function},
        names::{Name, shown},
    },
    monitor::{options::wish, prepare},
    output::sink::Output,
    phases::Phases,
    plan::Plan,
    sites::{Placing, Sites},
};

/// Prints the diagnosis; the exit code is 1 if the main job cannot run.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let mut output = Output::open(None)?;
    if args.facts {
        let kernel = prepare::facts(&Phases::begin())?;
        output.write(&format!("{}\n", serde_json::to_string_pretty(&frozen(&kernel)?)?))?;
        return Ok(0);
    }
    let mut text = String::new();
    let ready = diagnose(args, &mut text);
    output.write(&text)?;
    Ok(if ready { 0 } else { 1 })
}

/// Filesystems that are mounted on the host, or here if those of the host are hidden; 0 if neither is shown.
fn n_mounted() -> usize {
    let tables = ["/proc/1/mountinfo", "/proc/self/mountinfo"];
    let table = tables.into_iter().find_map(|table| fs::read(table).ok()).unwrap_or_default();
    // The third field is the device number (proc_pid_mountinfo(5)).
    let devices = table.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(2));
    devices.collect::<HashSet<_>>().len()
}

/// Writes the diagnosis to `text`; true if the main job can run.
fn diagnose(args: &DoctorArgs, text: &mut String) -> bool {
    let obstacles = obstacles(Path::new(prepare::ROOT));
    for obstacle in &obstacles {
        describe::obstacle(text, &obstacle.to_string());
    }
    if !obstacles.is_empty() {
        describe::verdict(text, false);
        return false;
    }
    match attached_plan(args) {
        Ok(Tried { kernel, plan, points, map_bytes, times }) => {
            describe::plan(text, &kernel, &plan, &points);
            if let Some(bytes) = map_bytes {
                describe::memory(text, bytes, args.slots);
            }
            describe::slots(text, n_mounted(), args.slots);
            match (usable(Timing::All).coarse_step_ns(), times) {
                (Some(step_ns), _) => describe::coarse_clock(text, step_ns),
                (None, Some([without, with])) => describe::cost(text, without, with),
                (None, None) => {}
            }
            describe::verdict(text, true);
            true
        }
        Err(error) => {
            describe::obstacle(text, &format!("{error:#}"));
            describe::verdict(text, false);
            false
        }
    }
}

/// A plan, and what became of it.
struct Tried {
    kernel: String,
    plan: Plan,
    /// What the kernel made of it; empty if it was not tried or is not said.
    points: Points,
    /// What the maps took, `None` if it was not tried.
    map_bytes: Option<u64>,
    /// How long writes took without and with it, `None` if it was not tried or cannot be known.
    times: Option<[own_writes::Times; 2]>,
}

/// The plan after it was tried, which attaches and detaches everything.
fn attached_plan(args: &DoctorArgs) -> Result<Tried> {
    let (wish, phases) = (wish(args.mechanism), Phases::begin());
    if args.dry_run {
        let (kernel, plan) = prepare::plan(wish, &phases)?;
        descriptors::ensure_for(&plan)?;
        return Ok(Tried { kernel, plan, points: Points::default(), map_bytes: None, times: None });
    }
    let (kernel, plan, groundwork) = prepare::plan_and_groundwork(wish, &phases)?;
    let options = Options { slots: args.slots, wish, ..Options::default() };
    let without = own_writes::time();
    let session = Session::start(plan, groundwork, &options, &phases);
    let session = session.map_err(prepare::explain)?;
    let points = match made::kprobes() {
        Ok(kprobes) => points(&session, &kprobes),
        Err(error) => {
            eprintln!(
                "prefault: what the kernel made of the probes is not shown: failed to read {}: {error}",
                made::KPROBES
            );
            Points::default()
        }
    };
    // Now the kernel has made of the probes what it makes of them.
    let times = without.and_then(|without| Ok([without, own_writes::time()?]));
    let times = times.inspect_err(|error| eprintln!("prefault: the cost is not shown: failed to write: {error}")).ok();
    Ok(Tried { kernel, plan: session.plan().clone(), points, map_bytes: Some(session.map_bytes()?), times })
}

/// What became of the points of each path and each site.
fn points(session: &Session, kprobes: &HashMap<u64, Made>) -> Points {
    let made = |addresses: Vec<u64>| addresses.iter().filter_map(|address| kprobes.get(address).copied()).collect();
    let plan = session.plan();
    Points {
        paths: (0..plan.paths.len()).map(|path| made(session.kprobes_of_path(path))).collect(),
        sites: plan.sites.iter().map(|planned| made(session.kprobes_of_site(planned.site.call.address))).collect(),
    }
}

/// The facts that decide on this kernel.
fn frozen(kernel: &Kernel) -> Result<Frozen> {
    let sites = Sites::find(kernel, Placing::default())?;
    let named = |address, with_text| Function { address, with_text };
    let mut functions: Vec<Function> = sites.targets.iter().map(|target| named(target.address, true)).collect();
    functions.extend(sites.sites.iter().map(|site| named(site.call.caller_address, true)));
    functions.extend(sites.paths.iter().map(|path| named(path.address, true)));
    // Where paths return is decided by the parts that the compiler split off and by the thunks they return through.
    let decides_returns = |name: &str| {
        let whole = name.split_once(".cold").map(|(whole, _)| whole);
        name.ends_with("return_thunk")
            || whole.is_some_and(|whole| sites.paths.iter().any(|path| path.function == shown(whole)))
    };
    let deciding = kernel.symbols.iter().filter(|symbol| decides_returns(symbol.name));
    functions.extend(deciding.map(|symbol| named(symbol.address, Name::of(symbol.name).is_cold)));
    functions.sort_by_key(|function| function.address);
    functions.dedup_by_key(|function| function.address);
    Ok(Frozen::save(kernel, &functions))
}
