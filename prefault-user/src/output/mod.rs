//! What is shown and exported: pure functions from the model to text.
//!
//! Nothing here writes anywhere or measures anything; the caller decides where the text goes and when. Text from the
//! kernel (thread names, devices) is made printable before it is shown.

pub mod event;
pub mod exposition;
pub mod histogram;
pub mod json;
pub mod limited;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod page;
pub mod report;
pub mod security;
pub mod sentence;
pub mod sink;
pub mod table;
pub mod units;
