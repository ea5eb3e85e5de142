//! What goes wrong while the exporter runs: said on standard error, once, and no reason to end.

use std::fmt;

pub use crate::output::sink::say;

/// Remembers what was complained of last.
#[derive(Debug, Default)]
pub struct LogOnce {
    last: String,
}

impl LogOnce {
    /// Says an error, unless it is the one that was said last.
    pub fn say_once(&mut self, error: &impl fmt::Display) {
        let complaint = format!("{error:#}");
        if complaint != self.last {
            say(&complaint);
            self.last = complaint;
        }
    }
}
