//! A limit to what measuring costs: how much of the time is measured, and when.

mod pace;
mod parts;
mod windows;

pub use self::{
    pace::{Budget, OverheadController, Usage},
    windows::Windows,
};
