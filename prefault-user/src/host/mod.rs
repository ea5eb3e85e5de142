//! Facts of the host besides its kernel: privilege, mounts, devices, modules, filesystem types.

pub mod clock;
pub mod devices;
pub mod environment;
pub mod fstypes;
pub mod limits;
pub mod modules;
pub mod mounts;
