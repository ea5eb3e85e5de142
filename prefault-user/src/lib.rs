//! prefault: measures the buffered-write prefault and the atomic copy on a live kernel.
//!
//! The way through the code: kernel facts -> call sites -> plan -> session -> snapshots -> intervals -> outputs.
//! docs/architecture.md draws the map; this file only names the modules.

pub mod bpf;
pub mod cli;
pub mod commands;
pub mod data;
pub mod exporter;
#[cfg(test)]
mod fuzz;
pub mod host;
pub mod kernel;
pub mod monitor;
pub mod output;
pub mod overhead;
pub mod phases;
pub mod plan;
pub mod sites;
pub mod workload;
