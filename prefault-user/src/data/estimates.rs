//! What there was in all, from what was counted in windows of time: totals without bias, with their standard errors.
//!
//! Where a window is does not depend on the load, and every moment is in one with a probability that is known. What began in
//! it, divided by that, estimates what began in its part of the time, and the time that it was open, divided by that, how much
//! time that was. Totals are the ratio of the two, times all of the time (Cochran, Sampling Techniques, 2.11 and 6.4; Horvitz and
//! Thompson 1952). What was open throughout is known exactly.

use std::collections::BTreeMap;

use super::{Filesystem, FilesystemCounters, Snapshot};

/// What is estimated of each filesystem, by its name in JSON.
pub const QUANTITIES: [&str; 6] = ["writes", "bytes", "prefaults", "prefaults_needed", "copies", "copies_short"];

/// How much windows differ is not known from fewer than so many.
const FEWEST: u64 = 5;

/// Cumulative numbers of [`QUANTITIES`].
type Counted = [u64; QUANTITIES.len()];

/// Sums over windows.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Of estimates for their parts of the time.
    total: f64,
    square: f64,
    /// Of estimates times durations.
    with_time: f64,
    /// Counted where everything was open.
    exact: f64,
}

/// An estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The total.
    pub total: f64,
    /// Its standard error, `None` if there were too few windows to say.
    pub standard_error: Option<f64>,
}

/// Estimates for one filesystem, in the order of [`QUANTITIES`].
#[derive(Clone, Debug, PartialEq)]
pub struct FilesystemEstimates {
    /// Which one.
    pub identity: Filesystem,
    /// How much there was.
    pub estimates: [Estimate; QUANTITIES.len()],
}

/// What is known of all windows so far.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    filesystems: BTreeMap<u32, (Filesystem, [Sums; QUANTITIES.len()])>,
    /// Windows, the time that they stand for, the sum of its squares, and the time that they were open.
    windows: u64,
    time_ns: f64,
    square_time: f64,
    open_ns: f64,
    /// Time in which everything was open.
    exact_ns: f64,
}

impl Estimates {
    /// Takes in a window: between the two snapshots, everything was counted that began in `open_ns`. `weight` is one over the
    /// probability of a moment to be inside; 1 is what was open throughout.
    pub fn add(&mut self, earlier: &Snapshot, later: &Snapshot, weight: f64, open_ns: u64) {
        let open = open_ns as f64;
        let duration = open * weight;
        let is_exact = weight <= 1.0;
        if is_exact {
            self.exact_ns += open;
        } else {
            self.windows += 1;
            self.time_ns += duration;
            self.square_time += duration * duration;
            self.open_ns += open;
        }
        for filesystem in &later.filesystems {
            let before = earlier.filesystems.iter().find(|before| before.slot == filesystem.slot);
            let before = before.map_or([0; QUANTITIES.len()], counted);
            let entry = self.filesystems.entry(filesystem.slot);
            let (_, sums) = entry.or_insert_with(|| (filesystem.identity.clone(), Default::default()));
            for (sum, (now, before)) in sums.iter_mut().zip(counted(filesystem).into_iter().zip(before)) {
                let grown = now.saturating_sub(before) as f64;
                if is_exact {
                    sum.exact += grown;
                } else {
                    let estimate = grown * weight;
                    sum.total += estimate;
                    sum.square += estimate * estimate;
                    sum.with_time += estimate * duration;
                }
            }
        }
    }

    /// Windows so far.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Time in which what began was counted, in nanoseconds.
    #[must_use]
    pub fn open_ns(&self) -> u64 {
        (self.exact_ns + self.open_ns) as u64
    }

    /// Part of `elapsed_ns` in which what began was counted; 1 before anything is known.
    #[must_use]
    pub fn open_share(&self, elapsed_ns: u64) -> f64 {
        let open_ns = self.exact_ns + self.open_ns;
        if open_ns > 0.0 { (open_ns / elapsed_ns as f64).min(1.0) } else { 1.0 }
    }

    /// What there was in all in `elapsed_ns`, of which the end may not have been measured any more.
    #[must_use]
    pub fn over(&self, elapsed_ns: u64) -> Vec<FilesystemEstimates> {
        let sampled_ns = (elapsed_ns as f64 - self.exact_ns).max(0.0);
        let estimate = |sums: &Sums| self.estimate(sums, sampled_ns);
        let of = |(identity, sums): &(Filesystem, [Sums; QUANTITIES.len()])| FilesystemEstimates {
            identity: identity.clone(),
            estimates: sums.each_ref().map(estimate),
        };
        let is_active = |estimates: &FilesystemEstimates| estimates.estimates.iter().any(|one| one.total > 0.0);
        self.filesystems.values().map(of).filter(is_active).collect()
    }

    fn estimate(&self, sums: &Sums, sampled_ns: f64) -> Estimate {
        if self.windows == 0 {
            let is_known = sampled_ns == 0.0;
            let scale = 1.0 + sampled_ns / self.exact_ns.max(1.0);
            return Estimate { total: sums.exact * scale, standard_error: is_known.then_some(0.0) };
        }
        let per_ns = sums.total / self.time_ns;
        let residuals = sums.square - 2.0 * per_ns * sums.with_time + per_ns * per_ns * self.square_time;
        let n = self.windows as f64;
        let unseen = (1.0 - self.open_ns / sampled_ns).max(0.0);
        let error = (residuals.max(0.0) * unseen * n / (n - 1.0)).sqrt() * sampled_ns / self.time_ns;
        Estimate { total: sums.exact + per_ns * sampled_ns, standard_error: (self.windows >= FEWEST).then_some(error) }
    }
}

fn counted(filesystem: &FilesystemCounters) -> Counted {
    let ledger = &filesystem.ledger;
    [
        ledger.write.calls,
        ledger.write.bytes,
        ledger.prefault.calls,
        ledger.prefault.needed_minor + ledger.prefault.needed_major,
        ledger.copy.calls,
        ledger.copy.zero + ledger.copy.partial,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::zero_ledger;

    fn snapshot(writes: u64) -> Snapshot {
        let mut ledger = zero_ledger();
        ledger.write.calls = writes;
        Snapshot {
            at_ns: 0,
            filesystems: vec![FilesystemCounters::other(ledger, Vec::new())],
            losses: [0; prefault_ebpf::N_LOSSES],
            missed_runs: 0,
            events_unread: 0,
            own_cost: None,
        }
    }

    fn writes_of(estimates: &Estimates, elapsed_ns: u64) -> Estimate {
        estimates.over(elapsed_ns)[0].estimates[0]
    }

    #[test]
    fn what_was_always_open_is_exact() {
        let mut estimates = Estimates::default();
        estimates.add(&snapshot(0), &snapshot(70), 1.0, 100);
        assert_eq!(writes_of(&estimates, 100), Estimate { total: 70.0, standard_error: Some(0.0) });
        assert_eq!((estimates.windows(), estimates.open_share(100)), (0, 1.0));
        assert_eq!(writes_of(&estimates, 200), Estimate { total: 140.0, standard_error: None });
    }

    #[test]
    fn a_steady_load_is_scaled_without_an_error() {
        let mut estimates = Estimates::default();
        for period in 0..5 {
            estimates.add(&snapshot(10 * period), &snapshot(10 * (period + 1)), 5.0, 20);
        }
        let writes = writes_of(&estimates, 550);
        assert!((writes.total - 275.0).abs() < 1e-6, "{writes:?}");
        assert!(writes.standard_error.is_some_and(|error| error < 1e-3), "{writes:?}");
        assert_eq!(estimates.open_share(500), 0.2);
    }

    /// Loads that differ from period to period, sampled again and again: the estimates scatter as their errors say.
    #[test]
    fn the_error_is_as_large_as_it_says() {
        let mut random = 1_u64;
        let mut next = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as f64 / (1_u64 << 31) as f64
        };
        let (mut inside, mut sum, rounds) = (0, 0.0, 400);
        // A write per nanosecond in 37 of each 100, as long as windows and gaps together, so that a window sees all of them,
        // some, or nothing.
        let load = |at: u64| u64::from(at % 100 < 37);
        let truth = 0.37 * 10_000.0;
        for _ in 0..rounds {
            let mut estimates = Estimates::default();
            let (mut at, mut seen) = ((next() * 100.0) as u64, 0);
            let end = at + 10_000;
            while at < end {
                // Parts of 100 with windows of 25, which lose what is outside, so that 20 are seen in the mean.
                let to = at + 1 + (next() * 125.0) as u64;
                let window = to.saturating_sub(25).max(at)..to.min(at + 100);
                let (before, open) = (seen, window.end - window.start);
                seen += window.map(load).sum::<u64>();
                estimates.add(&snapshot(before), &snapshot(seen), 5.0, open);
                at += 100;
            }
            let writes = writes_of(&estimates, 10_000);
            sum += writes.total / f64::from(rounds);
            let error = writes.standard_error.expect("there are many windows");
            inside += i32::from((writes.total - truth).abs() < 2.0 * error);
        }
        assert!((sum / truth - 1.0).abs() < 0.03, "{sum} in the mean, {truth} in truth");
        assert!(inside > rounds * 9 / 10, "{inside} of {rounds} within two errors");
    }

    #[test]
    fn one_window_does_not_say_how_wrong_it_is() {
        let mut estimates = Estimates::default();
        estimates.add(&snapshot(0), &snapshot(5), 2.0, 50);
        assert_eq!(writes_of(&estimates, 100), Estimate { total: 10.0, standard_error: None });
    }
}
