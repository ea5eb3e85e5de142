//! Probing: what to attach where (plan), and the BPF objects that do it (session).

mod attach;
mod attaching;
pub mod clock;
mod config;
pub mod counters;
pub mod environment;
pub mod filters;
mod floor;
pub mod limits;
mod load;
pub mod made;
mod mapped;
mod object;
mod opening;
pub mod own_writes;
pub mod plan;
pub mod pods;
mod points;
mod refusal;
pub mod session;
pub mod sight;
pub mod stats;
mod text;
pub mod windows;

pub use text::text_through_bpf;
