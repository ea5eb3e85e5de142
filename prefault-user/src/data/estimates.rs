//! What there was in all, from what was counted in windows of time: totals with their standard errors.
//!
//! Measuring slows writers down, so that there are fewer writes in a window than there would be without it, and nobody can say how
//! many from the time alone: a writer that waits for nothing makes half as many when each takes twice as long. Therefore calls of
//! write paths are counted between windows too. What is in a window for each call in it, times the calls in the gaps, is what
//! there was in the gaps (the ratio estimator: Cochran, Sampling Techniques, 2.11 and 6.4). Where even counting calls costs too
//! much, it is done in some of the gaps, drawn by lot. What was counted is known exactly, and what was not is estimated:
//! something with a probability of 1/w to be counted stands for itself and for w - 1 that were not (Horvitz and Thompson 1952;
//! the variance is that of sampling by independent lots, Särndal, Swensson and Wretman 1992, 3.2).

use std::collections::BTreeMap;

use super::{Filesystem, FilesystemCounters, Snapshot};

/// What is estimated of each filesystem, by its name in JSON.
pub const QUANTITIES: [&str; 6] = ["writes", "bytes", "prefaults", "prefaults_needed", "copies", "copies_short"];

/// How much windows differ is not known from fewer than so many.
const FEWEST: u64 = 5;

/// Cumulative numbers of [`QUANTITIES`].
type Counted = [u64; QUANTITIES.len()];

/// How large `y` is for each `x` in what was not counted, from samples of both.
#[derive(Clone, Copy, Debug, Default)]
struct Ratio {
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Ratio {
    /// A sample; `weight` is one over how likely it was.
    fn add(&mut self, x: f64, y: f64, weight: f64) {
        let unseen = weight - 1.0;
        self.x += unseen * x;
        self.y += unseen * y;
        self.xx += unseen * weight * x * x;
        self.xy += unseen * weight * x * y;
        self.yy += unseen * weight * y * y;
    }

    /// `None` if there was no `x`.
    fn value(&self) -> Option<f64> {
        (self.x > 0.0).then(|| self.y / self.x)
    }

    /// Variance of the value times `x`, from what the samples differ from it; `None` from too few of them, or if there was no `x`.
    /// `samples` is how many there were, those included that show no `x`.
    fn variance_of(&self, x: f64, samples: u64) -> Option<f64> {
        let value = self.value().filter(|_| samples >= FEWEST)?;
        let residuals = (self.yy - 2.0 * value * self.xy + value * value * self.xx).max(0.0);
        let n = samples as f64;
        Some(residuals * (x / self.x) * (x / self.x) * n / (n - 1.0))
    }
}

/// Sums of one filesystem.
#[derive(Clone, Debug, Default)]
struct Sums {
    /// Counted, wherever it was.
    counted: [f64; QUANTITIES.len()],
    /// In windows: calls of its paths, and what there was of each quantity.
    per_call: [Ratio; QUANTITIES.len()],
    /// Calls for which everything was counted.
    entered: f64,
    /// Calls in gaps, as far as they were counted.
    passed: u64,
    /// In gaps in which calls were counted: time, and calls.
    per_time: Ratio,
}

/// An estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The total.
    pub total: f64,
    /// Its standard error, `None` if there was too little to say.
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

/// What is known of all windows so far, and of the gaps between them.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    filesystems: BTreeMap<u32, (Filesystem, Sums)>,
    windows: u64,
    /// Time in which writes that began were counted.
    open_ns: u64,
    /// Gaps in which calls were counted and need not have been.
    drawn_gaps: u64,
    /// Time of gaps in which calls were counted, and the same without any calls.
    counted_gap_ns: f64,
    gap_time: Ratio,
    /// Time of all gaps.
    gap_ns: f64,
}

impl Estimates {
    /// Takes in a window: between the two snapshots, everything was counted that began in `open_ns`. `weight` is one over the
    /// probability of a moment to be inside; 1 is what was open throughout.
    pub fn add(&mut self, earlier: &Snapshot, later: &Snapshot, weight: f64, open_ns: u64) {
        let is_window = weight > 1.0;
        self.open_ns += open_ns;
        self.windows += u64::from(is_window);
        for filesystem in &later.filesystems {
            let before = in_slot(earlier, filesystem.slot);
            let calls = entered(filesystem).saturating_sub(before.map_or(0, entered)) as f64;
            let sums = self.sums(filesystem);
            let now = counted(filesystem);
            let before = before.map_or([0; QUANTITIES.len()], counted);
            for (index, (now, before)) in now.into_iter().zip(before).enumerate() {
                let grown = now.saturating_sub(before) as f64;
                sums.counted[index] += grown;
                sums.per_call[index].add(calls, grown, weight);
            }
            sums.entered += calls;
        }
    }

    /// Takes in a gap of `gap_ns`, at the end of which `now` was counted. `weight` is one over the probability of calls to be
    /// counted in it, `None` if they were not: what has passed all the same was late for the one before.
    pub fn add_gap(&mut self, now: &Snapshot, weight: Option<f64>, gap_ns: u64) {
        let gap_ns = gap_ns as f64;
        self.gap_ns += gap_ns;
        for filesystem in &now.filesystems {
            let _known = self.sums(filesystem);
        }
        for (&slot, (_, sums)) in &mut self.filesystems {
            let seen = in_slot(now, slot).map_or(sums.passed, passed);
            let grown = seen.saturating_sub(sums.passed) as f64;
            sums.passed = seen;
            if let Some(weight) = weight {
                sums.per_time.add(gap_ns, grown, weight);
            }
        }
        if let Some(weight) = weight {
            self.drawn_gaps += u64::from(weight > 1.0);
            self.counted_gap_ns += gap_ns;
            self.gap_time.add(gap_ns, 0.0, weight);
        }
    }

    fn sums(&mut self, filesystem: &FilesystemCounters) -> &mut Sums {
        let entry = self.filesystems.entry(filesystem.slot);
        // One that was not there yet had no calls in the gaps so far.
        let sums = || Sums { per_time: self.gap_time, ..Sums::default() };
        &mut entry.or_insert_with(|| (filesystem.identity.clone(), sums())).1
    }

    /// Windows so far.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Time in which what began was counted, in nanoseconds.
    #[must_use]
    pub fn open_ns(&self) -> u64 {
        self.open_ns
    }

    /// Time between windows in which calls were counted, in nanoseconds.
    #[must_use]
    pub fn passed_ns(&self) -> u64 {
        self.counted_gap_ns as u64
    }

    /// Part of the time between windows in which calls were counted.
    #[must_use]
    pub fn counted_gap_share(&self) -> f64 {
        if self.gap_ns > 0.0 { self.counted_gap_ns / self.gap_ns } else { 1.0 }
    }

    /// What there was in all, if a gap of so many nanoseconds is not taken in yet.
    #[must_use]
    pub fn over(&self, last_gap_ns: u64) -> Vec<FilesystemEstimates> {
        let of = |(identity, sums): &(Filesystem, Sums)| FilesystemEstimates {
            identity: identity.clone(),
            estimates: std::array::from_fn(|index| self.estimate(sums, index, last_gap_ns as f64)),
        };
        let is_active = |(_, sums): &&(Filesystem, Sums)| sums.passed > 0 || sums.counted.iter().any(|&sum| sum > 0.0);
        self.filesystems.values().filter(is_active).map(of).collect()
    }

    fn estimate(&self, sums: &Sums, index: usize, last_gap_ns: f64) -> Estimate {
        let counted = sums.counted[index];
        if self.gap_ns + last_gap_ns == 0.0 {
            return Estimate { total: counted, standard_error: Some(0.0) };
        }
        if self.counted_gap_ns == 0.0 {
            // Nothing is known of gaps yet but how long this one is.
            let scale = 1.0 + last_gap_ns / (self.open_ns as f64).max(1.0);
            return Estimate { total: counted * scale, standard_error: None };
        }
        // Without a window that saw a call, what was open throughout has to do.
        let per_call = sums.per_call[index].value().or_else(|| (sums.entered > 0.0).then(|| counted / sums.entered));
        let (calls, of_calls) = self.calls(sums, last_gap_ns);
        let variance = || {
            let of_ratio = sums.per_call[index].variance_of(calls, self.windows)?;
            Some(of_ratio + per_call? * per_call? * of_calls?)
        };
        let variance = if calls == 0.0 { of_calls } else { variance() };
        Estimate { total: counted + per_call.unwrap_or(0.0) * calls, standard_error: variance.map(f64::sqrt) }
    }

    /// Calls in gaps, and the variance of that.
    fn calls(&self, sums: &Sums, last_gap_ns: f64) -> (f64, Option<f64>) {
        let uncounted_ns = self.gap_ns - self.counted_gap_ns;
        let passed = sums.passed as f64;
        // The last gap is taken to be as those before.
        let of_all = passed / self.counted_gap_ns;
        let unseen = sums.per_time.value().unwrap_or(of_all) * uncounted_ns;
        let variance =
            if uncounted_ns == 0.0 { Some(0.0) } else { sums.per_time.variance_of(uncounted_ns, self.drawn_gaps) };
        (passed + unseen + of_all * last_gap_ns, variance)
    }
}

fn in_slot(snapshot: &Snapshot, slot: u32) -> Option<&FilesystemCounters> {
    snapshot.filesystems.iter().find(|filesystem| filesystem.slot == slot)
}

/// Calls of a filesystem's paths that began in windows.
fn entered(filesystem: &FilesystemCounters) -> u64 {
    filesystem.paths.iter().map(|path| path.ledger.entered).sum()
}

/// Those that began between windows, and were counted.
fn passed(filesystem: &FilesystemCounters) -> u64 {
    filesystem.paths.iter().map(|path| path.ledger.passed).sum()
}

fn counted(filesystem: &FilesystemCounters) -> Counted {
    let ledger = &filesystem.ledger;
    [
        ledger.write.calls,
        ledger.write.bytes,
        ledger.prefault.calls,
        ledger.prefault.needed(),
        ledger.copy.calls,
        ledger.copy.short(),
    ]
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::{Ledger, PathLedger};

    use super::*;
    use crate::data::PathCounters;

    /// What a filesystem with one path has done: calls in windows, which are writes, prefaults of these, calls between windows.
    #[derive(Clone, Copy, Default)]
    struct Done {
        entered: u64,
        prefaults: u64,
        passed: u64,
    }

    impl Done {
        fn snapshot(self) -> Snapshot {
            let mut ledger = Ledger::ZERO;
            ledger.write.calls = self.entered;
            ledger.prefault.calls = self.prefaults;
            let path = PathLedger { entered: self.entered, passed: self.passed, ..PathLedger::default() };
            Snapshot {
                at_ns: 0,
                filesystems: vec![FilesystemCounters::other(ledger, vec![PathCounters { path: 0, ledger: path }])],
                losses: [0; prefault_ebpf::N_LOSSES],
                missed_runs: 0,
                events_unread: 0,
                own_cost: None,
                silenced: crate::data::Silenced::default(),
            }
        }

        fn enter(&mut self, estimates: &mut Estimates, (writes, prefaults): (u64, u64), weight: f64, open_ns: u64) {
            let before = self.snapshot();
            self.entered += writes;
            self.prefaults += prefaults;
            estimates.add(&before, &self.snapshot(), weight, open_ns);
        }

        fn pass(&mut self, estimates: &mut Estimates, writes: u64, weight: Option<f64>, gap_ns: u64) {
            self.passed += if weight.is_some() { writes } else { 0 };
            estimates.add_gap(&self.snapshot(), weight, gap_ns);
        }
    }

    fn writes_of(estimates: &Estimates, last_gap_ns: u64) -> Estimate {
        estimates.over(last_gap_ns)[0].estimates[0]
    }

    #[test]
    fn what_was_always_open_is_exact() {
        let mut estimates = Estimates::default();
        Done::default().enter(&mut estimates, (70, 0), 1.0, 100);
        assert_eq!(writes_of(&estimates, 0), Estimate { total: 70.0, standard_error: Some(0.0) });
        assert_eq!((estimates.windows(), estimates.open_ns(), estimates.counted_gap_share()), (0, 100, 1.0));
        assert_eq!(writes_of(&estimates, 100), Estimate { total: 140.0, standard_error: None });
    }

    /// In windows there are fewer writes, because measuring slows the writer down: no matter.
    #[test]
    fn writes_are_exact_where_calls_are_counted_throughout() {
        let (mut estimates, mut done) = (Estimates::default(), Done::default());
        for period in 0..5 {
            done.pass(&mut estimates, 1000 * period, Some(1.0), 80);
            done.enter(&mut estimates, (100 * period, 0), 5.0, 20);
        }
        assert_eq!(writes_of(&estimates, 0), Estimate { total: 11_000.0, standard_error: Some(0.0) });
        // A gap that is not over is taken to be as those before.
        assert_eq!(writes_of(&estimates, 400).total, 21_000.0);
    }

    #[test]
    fn few_windows_do_not_say_how_wrong_they_are() {
        let (mut estimates, mut done) = (Estimates::default(), Done::default());
        done.pass(&mut estimates, 100, Some(1.0), 80);
        assert_eq!(writes_of(&estimates, 0), Estimate { total: 0.0, standard_error: None });
        // Of what was open throughout, prefaults per call are known.
        done.enter(&mut estimates, (10, 5), 1.0, 20);
        assert_eq!(estimates.over(0)[0].estimates[2], Estimate { total: 5.0 + 50.0, standard_error: None });
        let (mut estimates, mut done) = (Estimates::default(), Done::default());
        done.pass(&mut estimates, 100, Some(1.0), 80);
        done.enter(&mut estimates, (20, 20), 5.0, 20);
        assert_eq!(estimates.over(0)[0].estimates[2], Estimate { total: 120.0, standard_error: None });
        done.pass(&mut estimates, 100, None, 240);
        assert_eq!(writes_of(&estimates, 0), Estimate { total: 20.0 + 400.0, standard_error: None });
        assert_eq!(estimates.counted_gap_share(), 0.25);
    }

    /// Loads that differ from period to period, sampled again and again: the estimates scatter as their errors say, also where
    /// calls are counted the less often the more there are.
    #[test]
    fn the_error_is_as_large_as_it_says() {
        for shares in [[1.0, 1.0], [0.3, 0.3], [1.0, 0.2]] {
            let mut random = 1_u64;
            let mut next = move || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) as f64 / (1_u64 << 31) as f64
            };
            let (mut inside, mut off, rounds) = (0, 0.0, 400);
            for _ in 0..rounds {
                let (mut estimates, mut done, mut truth) = (Estimates::default(), Done::default(), 0.0);
                for period in 0..200 {
                    let (passing_share, most) = if period < 100 { (shares[0], 200.0) } else { (shares[1], 2000.0) };
                    // Writes in a gap, of which a part prefaults that differs too; in the window there are a third as many as in
                    // as much of the gap, or none, and another part prefaults.
                    let (writes, part) = ((next() * most) as u64, next());
                    let weight = (next() < passing_share).then_some(1.0 / passing_share);
                    done.pass(&mut estimates, writes, weight, 80);
                    let measured = if next() < 0.5 { writes / 12 } else { 0 };
                    let measured_part = (measured as f64 * next() + next()) as u64;
                    done.enter(&mut estimates, (measured, measured_part), 5.0, 20);
                    truth += writes as f64 * part + measured_part as f64;
                }
                let prefaults = estimates.over(0)[0].estimates[2];
                off += (prefaults.total / truth - 1.0) / f64::from(rounds);
                let error = prefaults.standard_error.expect("there are many windows");
                inside += i32::from((prefaults.total - truth).abs() < 2.0 * error);
            }
            assert!(off.abs() < 0.02, "{off} in the mean");
            assert!((rounds * 9 / 10..rounds).contains(&inside), "{inside} of {rounds} within two errors");
        }
    }
}
