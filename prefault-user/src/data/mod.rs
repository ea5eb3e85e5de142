//! The model: raw snapshots as read from the kernel, and everything that is derived from two of them.
//!
//! A snapshot holds cumulative counters and nothing computed; an interval is the difference of two. Whatever is shown,
//! live or at the end, comes from an interval. Nothing here reads, writes, or knows how the counters were obtained.

pub mod codes;
pub mod estimates;
pub mod exported;
pub mod floor;
pub mod histogram;
pub mod interval;
pub mod limited;
pub mod loss;
pub mod mechanism;
pub mod own_cost;
pub mod problem;
pub mod report;
pub mod security;
pub mod series;
pub mod silence;
pub mod snapshot;
pub mod stats;

pub use codes::{CODES, Code, CodeRow};
pub use estimates::{Estimate, Estimates, FilesystemEstimates, QUANTITIES};
pub use exported::{Exemplar, Exported, Labels, ProcessUse, Series, SiteCount, SiteMechanism};
pub use floor::{Floor, Points};
pub use histogram::{Bucket, Histogram, Quantiles};
pub use interval::{Interval, IntervalError};
pub use limited::{Limit, OverheadReport};
pub use loss::{LossEntry, LossReport, LossUnit};
pub use mechanism::{Mechanism, Operation};
pub use own_cost::OwnCost;
pub use problem::Problem;
pub use report::{EventRecord, Report, SiteReport, Timing};
pub use security::{Landlock, Security, capability_set};
pub use series::SeriesTable;
pub use silence::{Silence, Silenced};
pub use snapshot::{Filesystem, FilesystemCounters, PathCounters, Snapshot};
pub use stats::{FilesystemInterval, Mode, PathStats};
