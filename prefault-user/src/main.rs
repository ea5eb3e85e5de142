//! The `prefault` executable: parses, runs, and turns the outcome into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use prefault_user::{cli::Cli, commands};

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("prefault: {error:#}");
            ExitCode::from(2)
        }
    }
}
