//! What systemd is told: ready, alive, stopping. Nothing happens where there is no systemd.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Interval as Ticker;

use crate::commands::live::ticker;

/// Tells that measuring is on and how.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells that the end has begun.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells that this process is alive.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Ticks when systemd is to be told that this process is alive: twice as often as it wants to hear it; `None` if it does
/// not want to.
pub fn watchdog() -> Option<Ticker> {
    sd_notify::watchdog_enabled().map(|limit| ticker((limit / 2).max(Duration::from_millis(1))))
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::info!("failed to tell systemd: {error}");
    }
}
