//! One handle of a running session, and what leads to it: the options, the plan, what follows it while it runs.

pub mod filters;
pub mod live;
pub mod options;
pub mod prepare;
pub mod problems;
mod sight;
