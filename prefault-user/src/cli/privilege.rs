//! The part of the command line that says what a process gives up once it measures.

use clap::Args;

/// Options of commands that go on alone.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What it gives up once everything is attached")]
pub struct PrivilegeArgs {
    /// Become this user of /etc/passwd, or UID:GID, with the capabilities that are still needed; `root` stays the superuser
    /// [default when started by the superuser: the user prefault if there is one, else the first of 65520 to 65531 that
    /// nothing on this host uses]
    #[arg(long, value_name = "USER", conflicts_with = "keep_privileges")]
    pub user: Option<String>,
    /// Give up nothing: capabilities, files, system calls
    #[arg(long)]
    pub keep_privileges: bool,
    /// Only attach, give up, print what is left, and end
    #[arg(long)]
    pub print_security: bool,
}
