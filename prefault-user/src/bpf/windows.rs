//! What keeping a limit needs of a session: windows that open and shut, fewer writes timed, points taken away meanwhile.

use anyhow::Result;
use aya::Ebpf;
use prefault_ebpf::{map, window};

use super::{mapped::Word, session::Session};

/// What of a session can change while it measures.
pub(super) struct Controls {
    window: Word,
    timed_below: Word,
}

impl Controls {
    /// Takes the maps of `bpf`.
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self> {
        Ok(Self { window: Word::take(bpf, map::WINDOW)?, timed_below: Word::take(bpf, map::TIMED_BELOW)? })
    }
}

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
    pub fn set_window(&mut self, number: u32, state: WindowState, passing: bool) {
        let state = match state {
            WindowState::Open => window::OPEN,
            WindowState::Closing => window::CLOSING,
            WindowState::Shut => window::SHUT,
        };
        let passing = if passing { window::PASSING } else { 0 };
        self.controls.window.set((number.wrapping_mul(window::LOW_BITS + 1) | state | passing).into());
    }

    /// Times one write in `n` from now on, to one part in 2^32 / `n`; for sessions that do not time all or none.
    pub fn time_one_in(&mut self, n: u32) {
        self.controls.timed_below.set((1 << 32) / u64::from(n.max(1)));
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
}
