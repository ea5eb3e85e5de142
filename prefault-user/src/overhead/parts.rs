//! What is drawn by lot where a limit is kept to: where in a part of the time its window is, and whether calls are counted between
//! two windows.

use std::time::{Duration, Instant};

use super::Budget;

/// How often what measuring costs is looked at while all of the time is measured: so long it may cost too much.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Least length of a window.
const LEAST_OPEN: Duration = Duration::from_millis(20);

/// A part of the time and the window in it.
#[derive(Debug, PartialEq)]
pub struct Period {
    /// How long it is.
    pub duration: Duration,
    /// From its begin to the window's.
    pub before: Duration,
    /// How long that is.
    pub window: Duration,
    /// One over how likely a moment of the part is to be in the window.
    pub weight: f64,
}

impl Period {
    /// One that is all window.
    pub const WHOLE: Self =
        Self { duration: LOOK_INTERVAL, before: Duration::ZERO, window: LOOK_INTERVAL, weight: 1.0 };

    pub fn is_whole(&self) -> bool {
        *self == Self::WHOLE
    }

    /// A part of `duration` with a window, of which [`LEAST_OPEN`] is the least that is worth it.
    pub fn draw(step: Budget, duration: Duration) -> Self {
        if step.open_share >= 1.0 {
            return Self::WHOLE;
        }
        let odds = step.open_share / (1.0 - step.open_share);
        let duration = duration.max(LEAST_OPEN.div_f64(odds));
        let window = duration.mul_f64(odds);
        // It may begin before the part and end after it, of which it loses that: so the moments at the edges are as likely to
        // be in it as those in the middle.
        let end = (duration + window).mul_f64(fastrand::f64());
        let before = end.saturating_sub(window);
        Self { duration, before, window: end.min(duration) - before, weight: 1.0 / step.open_share }
    }
}

/// A time between two windows: from when one began to close to when the next one opens.
#[derive(Clone, Copy)]
pub struct Pause {
    /// When it began.
    pub begun: Instant,
    /// One over how likely calls were to be counted in it, `None` if they are not.
    pub weight: Option<f64>,
}

impl Pause {
    /// One that begins now.
    pub fn draw(step: Budget) -> Self {
        let is_counted = fastrand::f64() < step.passing_share;
        Self { begun: Instant::now(), weight: is_counted.then(|| 1.0 / step.passing_share) }
    }

    /// Whether calls are counted in it.
    pub fn is_counted(&self) -> bool {
        self.weight.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_of_a_part_is_as_likely_to_be_in_its_window() {
        for open_share in [0.05, 0.5, 0.9] {
            let step = Budget { open_share, ..Budget::ALL };
            let parts: Vec<Period> = (0..4000).map(|_| Period::draw(step, Duration::from_secs(1))).collect();
            assert!(parts.iter().all(|part| part.before + part.window <= part.duration));
            for moment in [1, 50, 500, 950, 999] {
                let moment = Duration::from_millis(moment);
                let is_in = |part: &&Period| part.before <= moment && moment < part.before + part.window;
                let share = parts.iter().filter(is_in).count() as f64 / 4000.0;
                assert!((share - open_share).abs() < 0.04, "{share} at {moment:?}, expected {open_share}");
            }
        }
        let rare = Period::draw(Budget { open_share: 0.01, ..Budget::ALL }, Duration::from_secs(1));
        assert_eq!(rare.duration, LEAST_OPEN * 99);
        assert!(Period::draw(Budget::ALL, Duration::from_secs(1)).is_whole());
    }
}
