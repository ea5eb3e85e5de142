//! The task runner of prefault: what prepares a machine, builds the static executable and boots test kernels.
//! It is a library so that tests can boot guests themselves; `main.rs` only parses the command line. Nothing in here is
//! part of the tool that users install.

pub mod apt;
pub mod bench;
pub mod checks;
pub mod demo;
pub mod dist;
pub mod monitoring;
pub mod notices;
pub mod package;
pub mod page;
pub mod paths;
pub mod process;
pub mod prometheus;
pub mod setup;
pub mod test;
pub mod tests;
pub mod truth;
pub mod vm;
