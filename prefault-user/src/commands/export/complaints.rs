//! What goes wrong while the exporter runs: said on standard error, once, and no reason to end.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Remembers what was complained of last.
#[derive(Debug, Default)]
pub struct Complaints {
    last: String,
}

impl Complaints {
    /// Says an error, unless it is the one that was said last.
    pub fn say_once(&mut self, error: &impl fmt::Display) {
        let complaint = format!("{error:#}");
        if complaint != self.last {
            say(&complaint);
            self.last = complaint;
        }
    }
}

/// Says something on standard error. That its reader has gone ends nothing.
pub fn say(text: &str) {
    let _unused = writeln!(io::stderr(), "prefault: {text}");
}
