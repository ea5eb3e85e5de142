//! Commands: the glue between what was typed and the modules that do it.

pub mod doctor;
pub mod export;
pub mod measure;
pub mod selftest;

use anyhow::Result;

use crate::{
    cli::{Cli, Command},
    host::limits,
};

/// Runs what was typed; the result is the exit code.
///
/// # Errors
/// What the user has to know: one line when printed with `{:#}`.
pub fn run(cli: Cli) -> Result<u8> {
    limits::raise();
    match cli.command {
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Selftest(args)) => selftest::run(&args),
        None => measure::run(&cli.measure),
    }
}

/// Has what is being done said on standard error, if that is wanted.
fn log_if(is_wanted: bool) {
    if is_wanted {
        env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
    }
}
