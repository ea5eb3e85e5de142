//! Measuring the floor: what the points of a prefault or a copy add to its latency on this machine, with the mechanisms that
//! this kernel makes of them.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::{Ebpf, maps::Array};
use prefault_ebpf::{FLOOR_SAMPLES, map};

use super::{
    made::{self, KprobeKind},
    pods::PodFloorSamples,
};
use crate::{
    data::{Floor, floor::median},
    sites::{FloorPlace, FloorPlaces},
};

/// Calls that are made: some more than are measured.
const CALLS: usize = FLOOR_SAMPLES + 16;

/// How long the kernel is given to make jumps; it has had the time that everything else took to be attached.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes the system calls whose beginnings are probed, and reads what the points measured.
///
/// # Errors
/// If the map cannot be read.
pub(super) fn measure(bpf: &mut Ebpf, places: &FloorPlaces) -> Result<Floor> {
    let is_jump = places.jumps.is_some_and(|place| become_jumps(&place));
    for place in [places.jumps, places.traps].into_iter().flatten() {
        for _ in 0..CALLS {
            // SAFETY: the calls are chosen to do nothing when called with zeros.
            unsafe { libc::syscall(place.syscall, 0, 0, 0, 0) };
        }
    }
    let map = bpf.map(map::FLOOR).context("the BPF object has no map for the floor")?;
    let samples = Array::<_, PodFloorSamples>::try_from(map)?;
    let median_of = |index| -> Result<Option<u64>> {
        let PodFloorSamples(mut taken) = samples.get(&index, 0)?;
        Ok(median(&mut taken.ns[..FLOOR_SAMPLES.min(taken.taken as usize)]))
    };
    let (of_jumps, of_traps) = (median_of(0)?, median_of(1)?);
    Ok(Floor { jump_ns: of_jumps.filter(|_| is_jump), trap_ns: of_traps })
}

/// Waits until the kernel has made jumps of both points; false if it does not, or does not say.
fn become_jumps(place: &FloorPlace) -> bool {
    let begun = Instant::now();
    loop {
        let kprobes = made::look().unwrap_or_default();
        if [place.begin, place.end].iter().all(|address| kprobes.get(address) == Some(&KprobeKind::Jump)) {
            return true;
        }
        if kprobes.is_empty() || begun.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
