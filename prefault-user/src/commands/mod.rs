//! Commands: the glue between what was typed and the modules that do it.

pub mod describe;
mod devices;
pub mod doctor;
pub mod export;
mod filters;
mod fstypes;
mod live;
pub mod measure;
mod modules;
mod mounts;
mod output;
mod parts;
mod prepare;
pub mod selftest;
mod sight;
mod windows;

use anyhow::Result;

use crate::{
    cli::{Cli, Command},
    probe::limits,
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
