//! Keeping measuring below a limit: windows open and shut in time, and between them the points of busy paths are away, at most
//! with the exception of their entries, which count calls.
//!
//! ```text
//! open -> closing -> shut -> open ...
//! ```
//! While everything fits into the limit, the window stays open and is only looked at. Else time is cut into parts that follow
//! each other, and each has one window somewhere in it. How long a part is and where its window is was decided before it began,
//! and every moment of it is as likely to be in the window, whatever the load was that led to the decision.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::parts::{LOOK_INTERVAL, Pause, Period};
use super::{Budget, OverheadController, Usage};
use crate::{
    bpf::{session::Session, windows::WindowState},
    data::{Estimates, Limit, OverheadReport, OwnCost, PathCounters, Snapshot},
};

/// A part of the time that has one window is so long, or [`CHANGES_APART`] times what changing points takes.
const PART: Duration = Duration::from_secs(1);
const CHANGES_APART: u32 = 5;

/// How often it is looked whether all writes have ended that began in a window, and how long they are waited for.
const CLOSING_INTERVAL: Duration = Duration::from_millis(5);
const LONGEST_CLOSING: Duration = Duration::from_secs(1);

/// Windows of a session.
pub struct Windows {
    limit: Limit,
    /// Whether any write is timed.
    is_timed: bool,
    /// What getting in and out of a program takes, in nanoseconds.
    per_run_ns: u64,
    pace: OverheadController,
    estimates: Estimates,
    number: u32,
    state: State,
    due: Instant,
    /// The part of the time that has the window.
    part: Period,
    /// When it is to end.
    part_end: Instant,
    /// When the window was opened.
    opened: Instant,
    /// What was counted before that.
    at_begin: Snapshot,
    /// What measuring had taken, and when, when the pace was set last.
    paced: (OwnCost, Instant),
    /// What changing points took last.
    changing: Duration,
    /// Write paths' calls that had not returned when a window was shut.
    given_up: u64,
    begun: Instant,
    ended: Option<Instant>,
    /// What measuring had taken when it began.
    at_start: OwnCost,
}

enum State {
    Open,
    /// In the gap that has begun.
    Closing {
        gap: Pause,
    },
    /// Since when, after what cost, nothing is counted of a window, and whether points are away.
    Shut {
        gap: Pause,
        since: (OwnCost, Instant),
        is_paused: bool,
    },
}

impl Windows {
    /// Begins with everything measured; `is_timed`: writes are timed too.
    pub fn begin(limit: Limit, is_timed: bool, session: &Session) -> Self {
        let at_begin = session.snapshot(0);
        let now = Instant::now();
        let floor = session.floor().unwrap_or_default();
        let at_start = own_cost(&at_begin);
        Self {
            limit,
            is_timed,
            per_run_ns: floor.jump_ns.or(floor.trap_ns).unwrap_or(0),
            pace: OverheadController::new(limit.processors()),
            estimates: Estimates::default(),
            number: 0,
            state: State::Open,
            due: now + LOOK_INTERVAL,
            part: Period::WHOLE,
            part_end: now,
            opened: now,
            paced: (at_start, now),
            at_start,
            at_begin,
            changing: Duration::ZERO,
            given_up: 0,
            begun: now,
            ended: None,
        }
    }

    /// When there is something to do.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Does what is due.
    ///
    /// # Errors
    /// If points cannot be brought back.
    pub fn advance(&mut self, session: &mut Session) -> Result<()> {
        match self.state {
            State::Open => self.look(session),
            State::Closing { gap } => self.close(session, gap),
            State::Shut { .. } => self.open(session)?,
        }
        Ok(())
    }

    /// Ends the window that is open, if one is, so that what was counted is complete.
    pub fn finish(&mut self, session: &mut Session) {
        self.ended = Some(Instant::now());
        if matches!(self.state, State::Open) {
            self.begin_closing(session);
        }
        while let State::Closing { gap } = self.state {
            std::thread::sleep(CLOSING_INTERVAL);
            self.close(session, gap);
        }
        if let State::Shut { gap, .. } = self.state {
            self.end_gap(session, gap);
        }
    }

    /// What came of the limit so far.
    pub fn report(&self) -> OverheadReport {
        let (cost, paced) = self.paced;
        let cost_ns = self.cost_ns(cost - self.at_start);
        // What the open window has seen is not in the estimates yet.
        let until = self.ended.unwrap_or_else(Instant::now);
        let (open, gap) = match self.state {
            State::Open => (self.opened.elapsed(), Duration::ZERO),
            State::Closing { gap } => (gap.begun - self.opened, Duration::ZERO),
            // The last one has been taken in.
            State::Shut { .. } if self.ended.is_some() => (Duration::ZERO, Duration::ZERO),
            State::Shut { gap, .. } => (Duration::ZERO, gap.begun.elapsed()),
        };
        let open_ns = self.estimates.open_ns() + open.as_nanos() as u64;
        OverheadReport {
            limit: self.limit,
            cost_ns,
            cost_share: cost_ns / self.limit.processors_ns(paced - self.begun),
            open_ns,
            open_share: (open_ns as f64 / (until - self.begun).as_nanos().max(1) as f64).min(1.0),
            passed_ns: self.estimates.passed_ns(),
            counted_gap_share: self.estimates.counted_gap_share(),
            windows: self.estimates.windows(),
            timed_one_in: self.is_timed.then_some(self.pace.step().timed_one_in),
            given_up: self.given_up,
            estimates: self.estimates.over(gap.as_nanos() as u64),
        }
    }

    /// Processor time that `runs` took, with getting in and out.
    fn cost_ns(&self, runs: OwnCost) -> f64 {
        (runs.run_ns + runs.runs * self.per_run_ns) as f64
    }

    /// The same since the window was opened, of which `now` is the end.
    fn open_cost_ns(&self, now: &Snapshot) -> f64 {
        self.cost_ns(own_cost(now) - own_cost(&self.at_begin))
    }

    /// Looks at a window that has been open for as long as was meant.
    fn look(&mut self, session: &mut Session) {
        if self.part.is_whole() {
            let now = session.snapshot(0);
            let open = self.opened.elapsed();
            let step = self.set_pace(session, &self.of_window(&now), own_cost(&now));
            if step.open_share >= 1.0 {
                self.estimates.add(&self.at_begin, &now, 1.0, open.as_nanos() as u64);
                self.at_begin = now;
                self.opened += open;
                self.due = Instant::now() + LOOK_INTERVAL;
                return;
            }
        }
        self.begin_closing(session);
    }

    fn begin_closing(&mut self, session: &mut Session) {
        let mut gap = Pause::draw(self.pace.step());
        if self.ended.is_some() {
            gap.weight = None;
        }
        session.set_window(self.number, WindowState::Closing, gap.is_counted());
        self.state = State::Closing { gap };
        self.due = gap.begun + CLOSING_INTERVAL;
    }

    /// Shuts the window if everything that began in it has ended, or will not.
    fn close(&mut self, session: &mut Session, gap: Pause) {
        let not_returned = not_returned(&session.snapshot(0));
        if not_returned > self.given_up && gap.begun.elapsed() < LONGEST_CLOSING {
            self.due = Instant::now() + CLOSING_INTERVAL;
            return;
        }
        session.set_window(self.number, WindowState::Shut, gap.is_counted());
        let at_end = session.snapshot(0);
        self.given_up = self.given_up.max(self::not_returned(&at_end));
        let open = gap.begun - self.opened;
        let cost = self.open_cost_ns(&at_end) / open.as_nanos() as f64;
        let step = self.set_pace(session, &self.of_window(&at_end), own_cost(&at_end));
        self.estimates.add(&self.at_begin, &at_end, self.part.weight, open.as_nanos() as u64);
        // A part that was open throughout ends with its window.
        let begin = if self.part.is_whole() { gap.begun } else { self.part_end.max(Instant::now()) };
        self.part = Period::draw(step, PART.max(CHANGES_APART * self.changing));
        self.part_end = begin + self.part.duration;
        self.due = begin + self.part.before;
        let since = (own_cost(&at_end), Instant::now());
        let length = self.due.saturating_duration_since(Instant::now());
        // Points that have nothing to do cost too; at the end they go anyway.
        let is_paused = length > self.changing && self.ended.is_none();
        if is_paused {
            let begun = Instant::now();
            session.pause(&known_paths(&at_end), gap.is_counted());
            self.changing = begun.elapsed();
        }
        let counted = if gap.is_counted() { " in which calls are counted" } else { "" };
        log::info!(
            "a window of {open:?} in which measuring took {cost:.2} processors, and a gap of {length:?}{counted}; points away after {:?}",
            self.changing
        );
        self.state = State::Shut { gap, since, is_paused };
    }

    /// Takes in what was counted in a gap that ends now, and begins with that what is to be counted next.
    fn end_gap(&mut self, session: &Session, gap: Pause) {
        let now = session.snapshot(0);
        let end = self.ended.unwrap_or_else(Instant::now);
        self.estimates.add_gap(&now, gap.weight, end.saturating_duration_since(gap.begun).as_nanos() as u64);
        self.at_begin = now;
    }

    /// Opens the next window.
    fn open(&mut self, session: &mut Session) -> Result<()> {
        if let State::Shut { gap, since: (cost, since), is_paused } = self.state {
            if is_paused {
                let begun = Instant::now();
                session.attach_missing()?;
                self.changing += begun.elapsed();
                log::info!("points back after {:?}", begun.elapsed());
            }
            self.end_gap(session, gap);
            if gap.is_counted() {
                self.learn_passing(session, since.elapsed(), cost);
            }
        }
        self.number = self.number.wrapping_add(1);
        session.set_window(self.number, WindowState::Open, false);
        self.state = State::Open;
        self.opened = Instant::now();
        self.due = self.opened + self.part.window;
        Ok(())
    }

    /// Sets the pace by what counting calls took in a gap that was so long, `before` which that was the cost: whether they are
    /// counted in the next one is drawn when the window is shut, which may be too late to learn of it.
    fn learn_passing(&mut self, session: &mut Session, passing: Duration, before: OwnCost) {
        let now = own_cost(&self.at_begin);
        let passing_cost_ns = self.cost_ns(now - before);
        let taken = passing_cost_ns / passing.as_nanos() as f64;
        log::info!("in a gap of {passing:?}, counting calls took {taken:.2} processors");
        let spent = Usage { passing_ns: passing.as_nanos() as u64, passing_cost_ns, ..Usage::default() };
        self.set_pace(session, &spent, now);
    }

    /// What the window took that ends with `now`.
    fn of_window(&self, now: &Snapshot) -> Usage {
        // What began in the window is measured to its end.
        let open_ns = self.opened.elapsed().as_nanos() as u64;
        Usage { open_ns, open_cost_ns: self.open_cost_ns(now), ..Usage::default() }
    }

    /// Sets the pace by what is known of the time since that was done last; `cost` is what measuring has taken until now.
    fn set_pace(&mut self, session: &mut Session, spent: &Usage, cost: OwnCost) -> Budget {
        let before = self.pace.step();
        let (cost_before, since) = std::mem::replace(&mut self.paced, (cost, Instant::now()));
        let step = self.pace.advance(&Usage {
            duration_ns: since.elapsed().as_nanos() as u64,
            cost_ns: self.cost_ns(cost - cost_before),
            ..*spent
        });
        if step.timed_one_in != before.timed_one_in {
            session.time_one_in(step.timed_one_in);
        }
        step
    }
}

/// What measuring has taken; with a limit it is always measured.
fn own_cost(snapshot: &Snapshot) -> OwnCost {
    snapshot.own_cost.unwrap_or_default()
}

/// Calls of write paths that have not returned, as far as was seen.
fn not_returned(snapshot: &Snapshot) -> u64 {
    paths(snapshot).map(|path| path.ledger.entered.saturating_sub(path.ledger.calls)).sum()
}

/// Write paths that were ever called. One that rests may be called in the gap.
fn known_paths(snapshot: &Snapshot) -> Vec<usize> {
    paths(snapshot).map(|path| path.path as usize).collect()
}

fn paths(snapshot: &Snapshot) -> impl Iterator<Item = &PathCounters> {
    snapshot.filesystems.iter().flat_map(|filesystem| &filesystem.paths)
}
