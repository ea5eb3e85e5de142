//! Tests that try inputs nobody has thought of: every parser, and the analysis of functions.
//!
//! Each is an ordinary test that runs what is in its corpus (`__fuzz__`) and as many random inputs as there is time for, a second
//! if nobody says otherwise. docs/architecture.md says how to run them for longer.

pub mod functions;
mod machine;
mod parsers;
pub mod source;
mod walks;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    kernel::{Kernel, frozen::KernelFacts, preemption::is_preemptible},
    plan::{MechanismChoice, Plan},
    sites::{Placing, Sites},
};

/// Decides by chance, but the same way for the same number.
fn chance(seed: u64) -> impl FnMut() -> bool {
    let mut chance = fastrand::Rng::with_seed(seed);
    move || chance.bool()
}

/// The saved facts of all kernels.
fn saved_kernels() -> Vec<Kernel> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
    let folders = fs::read_dir(folder).expect("the saved kernels are there");
    let facts = folders.filter_map(|entry| fs::read_to_string(entry.expect("readable").path().join("facts.json")).ok());
    let frozen = facts.map(|facts| serde_json::from_str::<KernelFacts>(&facts).expect("the facts have today's form"));
    let kernels: Vec<Kernel> = frozen.map(|frozen| frozen.thaw().expect("the symbols are good")).collect();
    assert!(kernels.len() >= 5, "only {} kernels are saved", kernels.len());
    kernels
}

#[test]
fn what_is_said_of_functions_is_so_in_saved_kernels() {
    for (seed, kernel) in saved_kernels().iter().enumerate() {
        for placing in [Placing::Optimisable, Placing::Exact] {
            let checked = walks::check(kernel, placing, 200, &mut chance(seed as u64));
            let n_calls = checked.unwrap_or_else(|what| panic!("{}, {placing:?}: {what}", kernel.release));
            let n_sites = Sites::find(kernel, placing).expect("there are sites").sites.len() as u64;
            assert!(n_calls > 10 * n_sites, "{}: {n_calls} calls of {n_sites} sites were met", kernel.release);
        }
    }
}

#[test]
fn what_is_said_of_functions_is_so() {
    let n_calls = AtomicU64::new(0);
    let time = Duration::from_secs(4);
    bolero::check!().with_max_len(512).with_test_time(time).for_each(|input: &[u8]| {
        let Some(kernel) = functions::kernel(input) else { return };
        match walks::check(&kernel, placing(input), 2, &mut chance(seed(input))) {
            Ok(met) => drop(n_calls.fetch_add(met, Ordering::Relaxed)),
            Err(what) => panic!("{:?}: {what}", placing(input)),
        }
    });
    assert!(n_calls.into_inner() > 0, "no walk came to a call");
}

#[test]
fn what_is_said_of_any_bytes_is_so() {
    bolero::check!().with_max_len(512).for_each(|input: &[u8]| {
        let Some(kernel) = functions::kernel_of_bytes(input) else { return };
        if let Err(what) = walks::check(&kernel, placing(input), 2, &mut chance(seed(input))) {
            panic!("{:?}: {what}", placing(input));
        }
        analyse(&kernel);
    });
}

/// Everything that is found out about a kernel before anything is attached.
fn analyse(kernel: &Kernel) {
    const MOST_BYTES: u64 = 1 << 20;
    if kernel.symbols.text().iter().any(|range| range.end.saturating_sub(range.start) > MOST_BYTES) {
        return;
    }
    if let Ok(sites) = Sites::find(kernel, Placing::default()) {
        let _plan = Plan::new(kernel, sites, MechanismChoice::Auto);
    }
    let _preemptible = is_preemptible(&kernel.symbols, &*kernel.text);
}

fn seed(input: &[u8]) -> u64 {
    input.iter().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add((*byte).into()))
}

/// One input of four is tried with points on the very instructions, where less is decided.
fn placing(input: &[u8]) -> Placing {
    if seed(input).is_multiple_of(4) { Placing::Exact } else { Placing::Optimisable }
}
