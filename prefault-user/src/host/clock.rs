//! The clock that latencies are taken with: in which steps it advances on this machine.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::data::Timing;

/// A clock that advances in longer steps times nothing that is measured here. Clock sources of hardware advance in steps of less
/// than a microsecond; where none works the kernel counts its ticks, of 1 to 10 ms (kernel/time/jiffies.c).
const COARSE_NS: u64 = 100_000;

/// Steps to look at.
const STEPS: usize = 16;
/// As many are enough of a coarse clock.
const COARSE_STEPS: usize = 3;
/// Where the clock does not advance at all.
const PATIENCE: Duration = Duration::from_millis(200);

/// CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns, in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The shortest step that CLOCK_MONOTONIC was seen to advance by, in nanoseconds: with a good clock the time between two readings.
#[must_use]
pub fn step_ns() -> u64 {
    let begun = Instant::now();
    let (mut shortest, mut n_steps) = (u64::MAX, 0);
    let mut before = monotonic_ns();
    // The readings end it where the clock stands still: a reading takes some nanoseconds at least.
    for _ in 0..100_000_000 {
        let now = monotonic_ns();
        if now == before {
            continue;
        }
        shortest = shortest.min(now - before);
        before = now;
        n_steps += 1;
        let enough = if shortest >= COARSE_NS { COARSE_STEPS } else { STEPS };
        if n_steps >= enough || begun.elapsed() > PATIENCE {
            break;
        }
    }
    shortest
}

/// Which writes are timed of those that are to be: none, where the clock is too coarse.
#[must_use]
pub fn usable(wished: Timing) -> Timing {
    if wished.one_in().is_none() {
        return wished;
    }
    match step_ns() {
        step_ns if step_ns >= COARSE_NS => Timing::CoarseClock { step_ns },
        _ => wished,
    }
}
