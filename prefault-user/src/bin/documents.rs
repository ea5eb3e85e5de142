//! Writes what the packages have besides the executable and is made from the command line's definition: `documents FOLDER`
//! puts man pages and completions there, under the names that man and the shells look for.

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{generate_to, shells};
use prefault_user::cli::Cli;

fn main() -> Result<()> {
    let folder: PathBuf = env::args_os().nth(1).context("no folder was given")?.into();
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), &folder).context("failed to write the man pages")?;
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    generate_to(shells::Bash, &mut command, &name, &folder)?;
    generate_to(shells::Fish, &mut command, &name, &folder)?;
    generate_to(shells::Zsh, &mut command, &name, &folder)?;
    Ok(())
}
