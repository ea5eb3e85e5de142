//! The constants of the programs that follow from the kernel's types and from what is measured.

use prefault_ebpf::Config;

use super::refusal::PlanError;
use crate::{
    kernel::types::{Types, USER_ITER_TYPES, offsets_of},
    sites::{Operation, Target},
};

/// The constants for a kernel of these types, whose measured functions are `targets`.
///
/// # Errors
/// [`PlanError`] if a member or an enumerator is missing.
pub(super) fn config_of(types: &dyn Types, targets: &[Target]) -> Result<Config, PlanError> {
    let offsets = offsets_of(types).map_err(PlanError::NoMember)?;
    let [ubuf, iovec] = USER_ITER_TYPES.map(|name| types.enumerator(name));
    if ubuf.is_none() && iovec.is_none() {
        return Err(PlanError::NoIterTypes);
    }
    let bit = |value: Option<u32>| value.map_or(0, |value| 1 << (value & 31));
    let mut config = Config {
        offsets,
        user_iter_types: bit(ubuf) | bit(iovec),
        ubuf_iter_type: ubuf.unwrap_or(u32::MAX),
        // Before 5.14 the types are flags above the direction (include/linux/uio.h, enum iter_type of 5.10).
        iter_type_ignored: u32::from(types.member_offset("iov_iter", "iter_type").is_none()),
        ..Config::default()
    };
    for target in targets {
        match target.signature.operation {
            Operation::Prefault => config.prefault_returns_errno = u32::from(target.signature.returns_errno),
            Operation::Copy => {
                config.copy_bytes_argument = target.signature.bytes_argument;
                config.copy_iter_argument = target.signature.iter_argument;
                config.copy_keeps_iter = u32::from(target.signature.keeps_iter);
            }
        }
    }
    Ok(config)
}
