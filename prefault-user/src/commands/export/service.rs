//! What systemd is told: ready, alive, stopping. Nothing happens where there is no systemd.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Interval as Ticker;

use crate::commands::live::{tick, ticker};

/// Tells that measuring is on and how.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells that the end has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// systemd's watchdog, if it wants to hear from this process.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    ticker: Option<Ticker>,
}

impl Watchdog {
    /// It is told twice as often as it wants to hear.
    pub fn begin() -> Self {
        let limit = sd_notify::watchdog_enabled();
        let ticker = limit.map(|limit| ticker((limit / 2).max(Duration::from_millis(1))));
        Self { limit: limit.unwrap_or_default(), ticker }
    }

    /// Waits until it is to be told; for ever if nobody wants to hear.
    pub async fn due(&mut self) {
        tick(&mut self.ticker).await;
    }

    /// Tells that this process is alive, unless a part of it has done nothing for so long that it is not.
    pub fn tell(&self, idle: Duration) {
        if idle < self.limit {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::info!("failed to tell systemd: {error}");
    }
}
