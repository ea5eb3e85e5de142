//! The `prefault` executable: parses, runs, and turns the outcome into an exit code.

use std::process::ExitCode;

use clap::{Parser as _, error::ErrorKind};
use prefault_user::{cli::Cli, commands, monitor::problems};

/// Exit code of errors, those of the command line included.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    share_one_arena();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match commands::run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // With what the verifier wrote.
            log::info!("{error:#}");
            eprintln!("prefault: {}", problems::line(&error));
            ExitCode::from(ERROR)
        }
    }
}

/// Has all threads take memory from one place: what starting or probing a module took comes back from the first thread's only. It
/// has to be said before there are threads.
fn share_one_arena() {
    // SAFETY: the call takes numbers.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Prints help that was asked for whole, and anything else as one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is no error.
        let _unused = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    // What is wrong ends at the first empty line; tips and usage follow.
    let words = text.lines().take_while(|line| !line.trim().is_empty()).flat_map(str::split_whitespace);
    let what = words.collect::<Vec<_>>().join(" ");
    eprintln!("prefault: {}; see prefault --help", what.trim_start_matches("error: "));
    ExitCode::from(ERROR)
}
