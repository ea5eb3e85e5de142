//! prefault: measures the buffered-write prefault and the atomic copy on a live kernel.
//!
//! The way through the code: kernel facts -> call sites -> plan -> session -> snapshots -> intervals -> outputs.
//! ARCHITECTURE.md draws the map; this file only names the modules.

pub mod cli;
pub mod cli_counting;
pub mod cli_export;
pub mod cli_privilege;
pub mod commands;
pub mod data;
#[cfg(test)]
mod fuzz;
pub mod kernel;
pub mod output;
pub mod phases;
pub mod privilege;
pub mod probe;
pub mod sites;
pub mod workload;
