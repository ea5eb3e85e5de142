//! What there was in all, from what was counted in windows of time: totals without bias, with their standard errors.
//!
//! A period is a window and the gap behind it, whose length is random and does not depend on the load, so that every moment is
//! as likely to be inside a window; what began in it, times the period over the window, estimates what began in the period.
//! Totals are those of the ratio to time, whose variance is that of the periods' residuals (Cochran, Sampling Techniques, 2.11
//! and 6.4). Periods that were open throughout are known exactly.

use std::collections::BTreeMap;

use super::{Filesystem, FilesystemCounters, Snapshot};

/// What is estimated of each filesystem, by its name in JSON.
pub const QUANTITIES: [&str; 6] = ["writes", "bytes", "prefaults", "prefaults_needed", "copies", "copies_short"];

/// Cumulative numbers of [`QUANTITIES`].
type Counted = [u64; QUANTITIES.len()];

/// Sums over the periods that had a window.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Of estimates for the periods.
    total: f64,
    square: f64,
    /// Of estimates times durations.
    with_time: f64,
    /// Counted in periods that were open throughout.
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

/// What is known of all periods so far.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    filesystems: BTreeMap<u32, (Filesystem, [Sums; QUANTITIES.len()])>,
    /// Periods with a window, their time, the sum of its squares, and the time that windows were open.
    windows: u64,
    time_ns: f64,
    square_time: f64,
    open_ns: f64,
    /// Time of periods that were open throughout.
    exact_ns: f64,
}

impl Estimates {
    /// Takes in a period of `duration_ns`: between the two snapshots, everything was counted that began in `open_ns`.
    pub fn add(&mut self, earlier: &Snapshot, later: &Snapshot, duration_ns: u64, open_ns: u64) {
        let (duration, open) = (duration_ns as f64, open_ns as f64);
        let is_exact = open_ns >= duration_ns;
        if is_exact {
            self.exact_ns += duration;
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
                } else if open > 0.0 {
                    let estimate = grown * duration / open;
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

    /// Part of the time in which what began was counted; 1 before anything is known.
    #[must_use]
    pub fn open_share(&self) -> f64 {
        let time_ns = self.exact_ns + self.time_ns;
        if time_ns > 0.0 { (self.exact_ns + self.open_ns) / time_ns } else { 1.0 }
    }

    /// What there was in all in `elapsed_ns`, of which the end may not have been measured any more.
    #[must_use]
    pub fn over(&self, elapsed_ns: u64) -> Vec<FilesystemEstimates> {
        let sampled_ns = (elapsed_ns as f64 - self.exact_ns).max(self.time_ns);
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
            return Estimate { total: sums.exact, standard_error: Some(0.0) };
        }
        let per_ns = sums.total / self.time_ns;
        let residuals = sums.square - 2.0 * per_ns * sums.with_time + per_ns * per_ns * self.square_time;
        let n = self.windows as f64;
        let unseen = 1.0 - self.open_ns / self.time_ns;
        let error = (residuals.max(0.0) * unseen * n / (n - 1.0)).sqrt() * sampled_ns / self.time_ns;
        Estimate { total: sums.exact + per_ns * sampled_ns, standard_error: (self.windows > 1).then_some(error) }
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
        estimates.add(&snapshot(0), &snapshot(70), 100, 100);
        assert_eq!(writes_of(&estimates, 100), Estimate { total: 70.0, standard_error: Some(0.0) });
        assert_eq!((estimates.windows(), estimates.open_share()), (0, 1.0));
    }

    #[test]
    fn a_steady_load_is_scaled_without_an_error() {
        let mut estimates = Estimates::default();
        for period in 0..4 {
            estimates.add(&snapshot(10 * period), &snapshot(10 * (period + 1)), 100, 20);
        }
        let writes = writes_of(&estimates, 440);
        assert!((writes.total - 220.0).abs() < 1e-6, "{writes:?}");
        assert!(writes.standard_error.is_some_and(|error| error < 1e-3), "{writes:?}");
        assert_eq!(estimates.open_share(), 0.2);
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
                let period = 20 + (next() * 160.0) as u64;
                let before = seen;
                seen += (at..at + 20).map(load).sum::<u64>();
                estimates.add(&snapshot(before), &snapshot(seen), period, 20);
                at += period;
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
        estimates.add(&snapshot(0), &snapshot(5), 100, 50);
        assert_eq!(writes_of(&estimates, 100), Estimate { total: 10.0, standard_error: None });
    }
}
