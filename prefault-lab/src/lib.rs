//! The laboratory of prefault: boots stock kernels in virtual machines and finds out whether the tool tells the truth there. It
//! takes the tool from `target/dist` as it is: building and packaging are the task runner's, which calls this crate.
//! Nothing in here is part of the tool that users install, and nothing of the tool is linked.
//!
//! - `vm` boots one guest, which runs one command.
//! - `guest` runs many steps in one guest, and judges what each said: `document` reads what the tool wrote, `truth` what the
//!   workload did, `golden` what was expected of a text, `report` has the verdicts.
//! - `matrix` has the tables of kernels, ways of booting, filesystems and workloads, and what follows from them; `cases` are the
//!   ends, the bad places, the neighbours, and what changes meanwhile; `export`, `counted` and `confinement` take more than a
//!   script.
//! - `suite` makes guests of all of them. `soak`, `bench` and `demo` are guests of their own.
//! - `paths`, `process`, `apt` and `prometheus` are what all of it stands on, and the task runner too.

pub mod apt;
pub mod bench;
pub mod cases;
pub mod confinement;
mod counted;
pub mod demo;
pub mod document;
pub mod export;
pub mod golden;
pub mod guest;
pub mod matrix;
pub mod paths;
pub mod process;
pub mod prometheus;
pub mod report;
pub mod soak;
pub mod suite;
pub mod truth;
pub mod vm;
