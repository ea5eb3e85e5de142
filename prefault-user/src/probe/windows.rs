//! What keeping a limit needs of a session: windows that open and shut, fewer writes timed, points taken away meanwhile.

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use prefault_ebpf::{map, window};

use super::session::{Session, timed_below};

/// Whether writes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// Writes that begin are counted.
    Open,
    /// Those that have begun still are.
    Closing,
    /// None is.
    Shut,
}

impl Session {
    /// Changes the state of window number `number`; with each number, what began under another one is forgotten. `passing`: calls
    /// that begin otherwise are counted as such.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_window(&mut self, number: u32, state: WindowState, passing: bool) -> Result<()> {
        let state = match state {
            WindowState::Open => window::OPEN,
            WindowState::Closing => window::CLOSING,
            WindowState::Shut => window::SHUT,
        };
        let passing = if passing { window::PASSING } else { 0 };
        let value = number.wrapping_mul(window::LOW_BITS + 1) | state | passing;
        self.word(map::WINDOW)?.set(0, value, 0).context("failed to change the window")
    }

    /// Times one write in `n` from now on; for sessions with a limit.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn time_one_in(&mut self, n: u32) -> Result<()> {
        let below = if n <= 1 { u32::MAX } else { timed_below(n) };
        self.word(map::TIMED_BELOW)?.set(0, below, 0).context("failed to change how many writes are timed")
    }

    /// Takes the kprobes of these write paths away until [`Session::attach_missing`], but those of their entries if calls are
    /// `counted`. Trampolines stay: they take too long to come and go, and are there only if asked for.
    pub fn pause(&mut self, paths: &[usize], counted: bool) {
        let is_of = |number: &usize| paths.contains(number);
        let sites = self
            .plan
            .sites
            .iter()
            .filter(|planned| planned.site.paths.as_deref().unwrap_or_default().iter().any(is_of));
        let calls: Vec<u64> = sites.map(|planned| planned.site.call.address).collect();
        self.attaching.detach_kprobes(paths, !counted, &calls);
    }

    fn word(&mut self, name: &str) -> Result<Array<&mut MapData, u32>> {
        let map = self.attaching.bpf().map_mut(name).with_context(|| format!("the BPF object has no map {name}"))?;
        Ok(Array::try_from(map)?)
    }
}
