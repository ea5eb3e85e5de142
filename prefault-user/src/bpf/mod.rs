//! Probing: what to attach where (plan), and the BPF objects that do it (session).

mod attach;
mod attaching;
pub mod counters;
pub mod descriptors;
pub mod filters;
mod floor;
pub mod load;
pub mod made;
mod mapped;
mod object;
mod opening;
pub mod own_writes;
pub mod pods;
pub mod rings;
pub mod session;
pub mod sight;
pub mod stats;
mod text;
pub mod windows;

pub use text::text_through_bpf;
