//! What is checked on this machine, without a guest: `host` the code and the tool, `tidy` the rules of the house, `directions`
//! who imports whom, `licences` of what is linked, `shipped` the packages and the image, `deployment` what is shipped beside
//! them.

#[cfg(test)]
mod deployment;
mod directions;
pub mod host;
pub mod licences;
pub mod shipped;
pub mod tidy;
