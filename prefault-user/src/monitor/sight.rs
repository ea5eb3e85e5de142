//! What is not seen while a session runs. Points that a switch of the host silences: people are told, and what can be measured
//! without ftrace is. What the plan does not measure: people are told.

use std::{os::fd::OwnedFd, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{io::unix::AsyncFd, time::Interval as Ticker};

use super::live::ticker;
use crate::{
    bpf::{session::Session, sight::Sight},
    data::{Problem, Silence, Silenced, silence::SILENCES},
    output::sink::say,
    plan::Plan,
};

/// How often the switches are looked at; a change is told at once, where inotify can be had.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the switches when there is reason to.
pub struct SightWatch {
    /// Can be read from once a switch was written to.
    written: Option<AsyncFd<OwnedFd>>,
    ticker: Ticker,
    /// As last told.
    told: Silenced,
}

impl SightWatch {
    /// It has to be called within a tokio runtime.
    ///
    /// # Errors
    /// If there can be no further descriptor.
    pub fn begin(sight: &Sight) -> Result<Self> {
        let written = sight.written().context("failed to watch switches")?;
        // SAFETY: the descriptor is owned by what it is registered with, so that it stays open and the same.
        let written = written.map(|written| unsafe { AsyncFd::register(written) });
        let written = written.transpose().context("failed to wait for switches")?;
        Ok(Self { written, ticker: ticker(INTERVAL), told: Silenced::default() })
    }

    /// Waits until it is time to look.
    pub async fn due(&mut self) {
        let Self { written, ticker, .. } = self;
        tokio::select! {
            () = readable(written.as_ref()) => {}
            _ = ticker.tick() => {}
        }
    }

    /// Looks whether points run, says if that has changed, and has `session` go on without ftrace if it is off. True if the plan
    /// has changed.
    ///
    /// # Errors
    /// If no point of some kind can be attached any more.
    pub fn look(&mut self, session: &mut Session) -> Result<bool> {
        let silenced = session.counters().sight().look();
        for row in &SILENCES {
            match (self.told.now[row.silence as usize], silenced.now[row.silence as usize]) {
                (false, true) => say(&format!("{}: {}", row.now, row.remedy)),
                (true, false) => say(&format!("{}: over, points run again", row.key)),
                _ => {}
            }
        }
        self.told = silenced;
        let has_left = silenced.now[Silence::FtraceOff as usize] && session.leave_trampolines()?;
        if has_left {
            // That ftrace is off matters no longer.
            self.told = session.counters().sight().look();
            say("write paths are probed by kprobes from now on");
        }
        Ok(has_left)
    }
}

/// What people were told of a plan.
#[derive(Debug, Default)]
pub struct Remarks(Vec<Problem>);

impl Remarks {
    /// Tells people what `plan` does not measure, or counts as lost, each once.
    pub fn tell(&mut self, plan: &Plan) {
        for remark in plan.remarks() {
            if !self.0.contains(&remark) {
                say(&remark.line());
                self.0.push(remark);
            }
        }
    }
}

/// Waits until a switch was written to; for ever if they are not watched.
async fn readable(written: Option<&AsyncFd<OwnedFd>>) {
    let Some(written) = written else { return std::future::pending().await };
    match written.readable().await {
        Ok(mut ready) => ready.clear_ready(),
        // The ticker looks too.
        Err(_) => std::future::pending().await,
    }
}
