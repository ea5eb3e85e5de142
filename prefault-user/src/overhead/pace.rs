//! Keeping a limit to what measuring costs: which part of the time, and how many of the writes, the next period may take.
//!
//! Timing one write in many comes first, because everything is still counted; it saves an eighth (docs/overhead.md), so that where
//! more has to be saved, measuring itself is confined to a part of the time, in which everything is timed. In the rest calls of
//! write paths are only counted, which may take a part of the limit too: if it takes more, that is done for a part of the rest.

/// What timing one write in [`FEW`] leaves of the cost, at most: 3,062 to 2,697 instructions on 6.12, 2,262 to 2,016 on 6.18.
const UNTIMED_SHARE: f64 = 0.9;

/// One write in this many is timed where that is enough.
const FEW: u32 = 100;

/// Part of the limit that is aimed at: what is to come is not known.
const AIM: f64 = 0.9;

/// Part of the limit that counting calls between windows may take.
const COUNTING_SHARE: f64 = 0.5;

/// Least part of the time that is measured. Less would not be worth the changing of points.
const LEAST_OPEN: f64 = 1.0 / 256.0;

/// The same until it is known what counting calls costs: gaps stay short, and the first one, in which they are counted, cannot
/// take much.
const LEAST_OPEN_AT_FIRST: f64 = 1.0 / 50.0;

/// Time in which what was the highest cost is forgotten to one half: a load that swings is met at its worst.
const HALF_LIFE_NS: f64 = 20e9;

/// What a period took and found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// From its begin to that of the next one, in nanoseconds.
    pub duration_ns: u64,
    /// Time in which writes that began were counted.
    pub open_ns: u64,
    /// Processor time that measuring took.
    pub cost_ns: f64,
    /// The same while writes were counted.
    pub open_cost_ns: f64,
    /// Time in which calls were only counted.
    pub passing_ns: u64,
    /// The same as `cost_ns` in that time.
    pub passing_cost_ns: f64,
}

/// What a period may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Part of the time in which writes are counted, above 0, at most 1.
    pub open_share: f64,
    /// One write in this many is timed.
    pub timed_one_in: u32,
    /// Part of the rest of the time in which calls are counted, above 0, at most 1.
    pub passing_share: f64,
}

impl Budget {
    /// Everything.
    pub const ALL: Self = Self { open_share: 1.0, timed_one_in: 1, passing_share: 1.0 };
}

/// The controller.
#[derive(Clone, Debug)]
pub struct OverheadController {
    /// Processor time that may be taken in a unit of time.
    limit: f64,
    step: Budget,
    /// The highest cost per open time, as if everything were timed; slowly forgotten.
    rate: f64,
    /// Time in which calls were only counted, and what it cost; slowly forgotten. Not the highest cost: gaps are most of the time,
    /// and one that was as short as a burst says little about them.
    passing_ns: f64,
    passing_cost_ns: f64,
    elapsed_ns: f64,
    cost_ns: f64,
}

impl OverheadController {
    /// `limit`: processors, or a part of one, that measuring may take.
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self {
            limit,
            step: Budget::ALL,
            rate: 0.0,
            passing_ns: 0.0,
            passing_cost_ns: 0.0,
            elapsed_ns: 0.0,
            cost_ns: 0.0,
        }
    }

    /// What is being done.
    #[must_use]
    pub fn step(&self) -> Budget {
        self.step
    }

    /// What to do next, after a period that was as `spent` says.
    pub fn advance(&mut self, spent: &Usage) -> Budget {
        self.elapsed_ns += spent.duration_ns as f64;
        self.cost_ns += spent.cost_ns;
        let forgotten = 0.5_f64.powf(spent.duration_ns as f64 / HALF_LIFE_NS);
        self.rate *= forgotten;
        self.passing_ns = self.passing_ns * forgotten + spent.passing_ns as f64;
        self.passing_cost_ns = self.passing_cost_ns * forgotten + spent.passing_cost_ns;
        if spent.open_ns > 0 {
            let timing_share = if self.step.timed_one_in > 1 { UNTIMED_SHARE } else { 1.0 };
            self.rate = self.rate.max(spent.open_cost_ns / spent.open_ns as f64 / timing_share);
        }
        self.step = self.next_step();
        self.step
    }

    fn next_step(&self) -> Budget {
        let rate = self.rate;
        // What was overdrawn is saved from now on.
        let overdraft = (self.cost_ns / (self.limit * self.elapsed_ns).max(1.0)).max(1.0);
        let aim = AIM * self.limit / overdraft;
        if rate <= aim {
            Budget::ALL
        } else if rate * UNTIMED_SHARE <= aim {
            Budget { timed_one_in: FEW, ..Budget::ALL }
        } else {
            let passing_rate = self.passing_cost_ns / self.passing_ns.max(1.0);
            let passing_share = (COUNTING_SHARE * aim / passing_rate).clamp(LEAST_OPEN, 1.0);
            let left = aim - passing_share * passing_rate;
            let least = if self.passing_ns > 0.0 { LEAST_OPEN } else { LEAST_OPEN_AT_FIRST };
            Budget { open_share: (left / rate).max(least), passing_share, ..Budget::ALL }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// What counting a call costs, as a part of measuring a write.
    const COUNTED: f64 = 0.1;

    /// A second under a load that costs `rate` while it is measured, in steps of a quarter; the result is what it cost.
    fn live(pace: &mut OverheadController, rate: f64) -> f64 {
        let quarter = || {
            let Budget { open_share, timed_one_in, passing_share } = pace.step();
            let rate = if timed_one_in > 1 { rate * 0.88 } else { rate };
            let open_ns = (open_share * SECOND as f64 / 4.0) as u64;
            let passing_ns = (passing_share * (SECOND / 4 - open_ns) as f64) as u64;
            let (open_cost_ns, passing_cost_ns) = (rate * open_ns as f64, rate * COUNTED * passing_ns as f64);
            let cost_ns = open_cost_ns + passing_cost_ns;
            pace.advance(&Usage {
                duration_ns: SECOND / 4,
                open_ns,
                cost_ns,
                open_cost_ns,
                passing_ns,
                passing_cost_ns,
            });
            cost_ns / SECOND as f64
        };
        std::iter::repeat_with(quarter).take(4).sum()
    }

    #[test]
    fn what_costs_less_than_the_limit_is_left_alone() {
        let mut pace = OverheadController::new(0.01);
        for _ in 0..5 {
            live(&mut pace, 0.005);
            assert_eq!(pace.step(), Budget::ALL);
        }
    }

    #[test]
    fn what_costs_a_little_more_is_timed_less() {
        let mut pace = OverheadController::new(0.01);
        let costs: Vec<f64> = (0..50).map(|_| live(&mut pace, 0.0095)).collect();
        assert_eq!(pace.step(), Budget { timed_one_in: FEW, ..Budget::ALL });
        assert!(costs.iter().sum::<f64>() / 50.0 <= 0.01);
    }

    #[test]
    fn what_costs_far_more_is_measured_for_a_part_of_the_time() {
        let mut pace = OverheadController::new(0.01);
        let costs: Vec<f64> = (0..100).map(|_| live(&mut pace, 0.2)).collect();
        assert!(costs.iter().sum::<f64>() / 100.0 <= 0.0101, "{costs:?}");
        let Budget { open_share, passing_share, .. } = pace.step();
        // Counting calls takes the half of its limit, and windows the other.
        assert!((0.015..0.025).contains(&open_share), "{open_share}");
        assert!((0.15..0.25).contains(&passing_share), "{passing_share}");
    }

    #[test]
    fn calls_are_counted_all_of_the_time_if_that_takes_little() {
        let mut pace = OverheadController::new(0.01);
        let costs: Vec<f64> = (0..100).map(|_| live(&mut pace, 0.04)).collect();
        assert!(costs.iter().sum::<f64>() / 100.0 <= 0.0101, "{costs:?}");
        let Budget { open_share, passing_share, .. } = pace.step();
        assert_eq!(passing_share, 1.0);
        assert!((0.08..0.15).contains(&open_share), "{open_share}");
    }

    #[test]
    fn what_counting_costs_is_found_out_in_a_short_gap() {
        let mut pace = OverheadController::new(0.01);
        let quarter = SECOND / 4;
        let window =
            Usage { duration_ns: quarter, open_ns: quarter, cost_ns: 0.25e9, open_cost_ns: 0.25e9, ..Usage::default() };
        assert_eq!(pace.advance(&window), Budget { open_share: LEAST_OPEN_AT_FIRST, ..Budget::ALL });
        let gap = Usage {
            duration_ns: SECOND,
            cost_ns: 0.4e9,
            passing_ns: SECOND,
            passing_cost_ns: 0.4e9,
            ..Usage::default()
        };
        assert_eq!(pace.advance(&gap), Budget { open_share: LEAST_OPEN, passing_share: LEAST_OPEN, ..Budget::ALL });
    }

    #[test]
    fn a_load_that_swings_stays_below_the_limit_in_the_mean() {
        let mut pace = OverheadController::new(0.01);
        let costs: Vec<f64> =
            (0..400).map(|second| live(&mut pace, if second / 7 % 2 == 0 { 0.001 } else { 0.3 })).collect();
        let mean = costs.iter().sum::<f64>() / 400.0;
        assert!(mean <= 0.0101, "{mean}");
        assert!(mean >= 0.002, "{mean}");
    }

    #[test]
    fn a_load_that_ends_is_measured_whole_again() {
        let mut pace = OverheadController::new(0.01);
        let _costs: Vec<f64> = (0..20).map(|_| live(&mut pace, 0.2)).collect();
        let _costs: Vec<f64> = (0..120).map(|_| live(&mut pace, 0.0)).collect();
        assert_eq!(pace.step(), Budget::ALL);
    }
}
