//! Where output goes: standard output or a file, opened before anything is measured.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context as _, Result};

/// An opened output.
pub struct Output {
    to: Box<dyn Write>,
}

impl Output {
    /// Opens `file`, or standard output.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let to: Box<dyn Write> = match file {
            None => Box::new(io::stdout()),
            Some(path) => Box::new(File::create(path).with_context(|| format!("failed to create {}", path.display()))?),
        };
        Ok(Self { to })
    }

    /// Writes `text` at once.
    ///
    /// # Errors
    /// If it cannot be written; see [`is_closed_pipe`].
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush()).context("failed to write the output")
    }
}

/// Whether the reader of the output has gone, which ends the program quietly.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

/// Says a line on standard error. That its reader has gone ends nothing.
pub fn say(text: &str) {
    let _unused = writeln!(io::stderr(), "prefault: {text}");
}

/// Writes to standard output; a reader that has gone is no error.
///
/// # Errors
/// If it cannot be written to.
pub fn write_once(text: &str) -> Result<()> {
    match Output::open(None)?.write(text) {
        Err(error) if !is_closed_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}
