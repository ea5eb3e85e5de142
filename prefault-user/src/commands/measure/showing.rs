//! A measurement that is running: what is shown of it, and when.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::Result;
use tokio::time::Interval as Ticker;

use crate::{
    cli::MeasureArgs,
    data::{EventRecord, Interval, Report, Snapshot, Timing},
    monitor::live::{Live, ticker},
    output::{event, json, limited, report, sink::Output, table},
};

/// Interval of the tables if none is given.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Tables after which the heading is repeated.
const TABLES_PER_HEADER: u32 = 20;

/// The newest events, which the JSON document shows.
const EVENTS_KEPT: usize = 64;

/// A measurement that is running.
pub struct Measurement {
    /// The session.
    pub live: Live,
    first: Snapshot,
    /// The end of the interval before.
    previous: Snapshot,
    events: VecDeque<EventRecord>,
    /// When a table is due.
    pub ticker: Option<Ticker>,
    /// Intervals shown so far.
    intervals: u32,
    layout: table::Layout,
    as_json: bool,
    print_events: bool,
    timing: Timing,
    /// Points did not run for a time.
    pub was_silenced: bool,
}

impl Measurement {
    /// Begins with what the session has counted so far.
    pub fn begin(live: Live, args: &MeasureArgs) -> Self {
        let first = live.snapshot();
        let wants_tables = args.interval.is_some() || (args.command.is_empty() && !args.json);
        let period = wants_tables.then(|| args.interval.unwrap_or(DEFAULT_INTERVAL));
        Self {
            previous: first.clone(),
            first,
            events: VecDeque::new(),
            ticker: period.map(ticker),
            intervals: 0,
            layout: table::Layout::new(table::Scale::PerSecond),
            as_json: args.json,
            print_events: args.events,
            timing: live.timing(),
            was_silenced: false,
            live,
        }
    }

    /// Tells a person who waits for the first table that it is on.
    pub fn greet(&self) {
        if self.ticker.is_some() && io::stderr().is_terminal() {
            let sites = self.live.plan().n_measured();
            eprintln!("prefault: measuring at {sites} call sites of {}; Ctrl-C ends it", self.live.kernel());
        }
    }

    /// Shows what was counted since the interval before ended.
    pub fn end_interval(&mut self, output: &mut Output) -> Result<()> {
        let events = self.live.take_events();
        self.pass_on_events(events, output)?;
        let now = self.live.snapshot();
        let interval = Interval::between(&self.previous, &now, self.live.path_names())?;
        self.previous = now;
        let text = if self.as_json { json::line(&self.report(interval))? } else { self.table(&interval) };
        self.intervals += 1;
        output.write(&text)
    }

    fn table(&mut self, interval: &Interval) -> String {
        let mut text = String::new();
        // At the begin, where a column had to grow, and once a screen.
        if self.layout.fit(interval) || self.intervals.is_multiple_of(TABLES_PER_HEADER) {
            text.push_str(&self.layout.header());
        }
        text.push_str(&self.layout.rows(interval));
        if !interval.loss.is_empty() {
            text.push_str(&report::loss(&interval.loss, &self.live.plan().not_understood()));
        }
        text.push_str(&report::own_cost(interval));
        if let Some(limited) = self.live.limited() {
            text.push_str(&limited::line(&limited));
        }
        text
    }

    /// Keeps the newest events, and prints all if they are to be printed.
    pub fn pass_on_events(&mut self, events: Vec<EventRecord>, output: &mut Output) -> Result<()> {
        if self.print_events && !events.is_empty() {
            output.write(&events.iter().map(event::line).collect::<String>())?;
        }
        self.events.extend(events);
        let surplus = self.events.len().saturating_sub(EVENTS_KEPT);
        self.events.drain(..surplus);
        Ok(())
    }

    /// Shows all that was counted; of documents the last one, which is of what was counted since the one before.
    pub fn finish(&mut self, output: &mut Output) -> Result<()> {
        self.live.finish();
        let events = self.live.take_events();
        let last = self.live.snapshot();
        self.was_silenced = last.silenced.ever();
        self.pass_on_events(events, output)?;
        self.live.pass_on_messages();
        let since = if self.as_json { &self.previous } else { &self.first };
        let report = self.report(Interval::between(since, &last, self.live.path_names())?);
        output.write(&match self.as_json {
            false => report::report(&report),
            true if self.intervals == 0 && self.ticker.is_none() => json::document(&report)?,
            true => json::line(&report)?,
        })
    }

    /// What was counted in `interval`, with its surroundings.
    fn report(&mut self, interval: Interval) -> Report {
        Report {
            kernel: self.live.kernel().to_owned(),
            interval,
            timing: self.timing,
            limited: self.live.limited(),
            floor: self.live.floor(),
            sites: self.live.site_reports(),
            events: self.events.drain(..).collect(),
        }
    }
}
