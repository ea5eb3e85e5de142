//! The BPF objects, which of them the running kernel can load, and the calls in them that aya does not resolve.

use anyhow::{Context as _, Result};
use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use prefault_ebpf::CAST_PLACEHOLDER;

static FULL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/prefault-programs"));
static LEGACY: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/prefault-programs-legacy"));

/// `call` with BPF_PSEUDO_KFUNC_CALL (include/uapi/linux/bpf.h), before its number.
const CALL_KERNEL_FUNCTION: [u8; 4] = [0x85, 0x20, 0, 0];
/// `r0 = r1`
const MOVE_R1_TO_R0: [u8; 8] = [0xbf, 0x10, 0, 0, 0, 0, 0, 0];

/// An object, and what it does without.
#[derive(Clone, Copy)]
pub(super) struct Object {
    /// The ELF file.
    pub(super) bytes: &'static [u8],
    /// It has neither task storage nor attach cookies: points are told apart by address, in a map.
    pub(super) is_legacy: bool,
}

impl Object {
    /// The object with every call of the function that gives pointers types made a call of number `function` in the kernel's
    /// BTF, or if there is none a move, which is what the verifier makes of the call (fixup_kfunc_call in
    /// kernel/bpf/verifier.c).
    pub(super) fn with_cast(self, function: Option<u32>) -> Vec<u8> {
        let mut bytes = self.bytes.to_vec();
        let mut call = CALL_KERNEL_FUNCTION.to_vec();
        call.extend(CAST_PLACEHOLDER.to_le_bytes());
        let calls: Vec<usize> = memchr::memmem::find_iter(&bytes, &call).collect();
        for at in calls {
            match function {
                Some(function) => bytes[at + 4..at + 8].copy_from_slice(&function.to_le_bytes()),
                None => bytes[at..at + 8].copy_from_slice(&MOVE_R1_TO_R0),
            }
        }
        bytes
    }
}

/// The object for the running kernel, found out by trying what the full one needs.
pub(super) fn object() -> Result<Object> {
    // Task storage came with 5.11, attach cookies with 5.15 (7adfc6c9b315 "bpf: Add bpf_get_attach_cookie() BPF helper").
    for helper in [BpfHelper::BPF_FUNC_task_storage_get, BpfHelper::BPF_FUNC_get_attach_cookie] {
        let supported = is_helper_supported(ProgramType::KProbe, helper);
        if !supported.context("failed to find out which helpers BPF programs may call")? {
            return Ok(Object { bytes: LEGACY, is_legacy: true });
        }
    }
    Ok(Object { bytes: FULL, is_legacy: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls_in(bytes: &[u8], number: u32) -> usize {
        let call = [CALL_KERNEL_FUNCTION, number.to_le_bytes()].concat();
        memchr::memmem::find_iter(bytes, &call).count()
    }

    #[test]
    fn casts_are_calls_of_the_kernels_function_or_moves() {
        for object in [FULL, LEGACY].map(|bytes| Object { bytes, is_legacy: false }) {
            let n_calls = calls_in(object.bytes, CAST_PLACEHOLDER);
            assert!(n_calls > 0);
            assert_eq!(calls_in(&object.with_cast(Some(77)), 77), n_calls);
            assert_eq!(calls_in(&object.with_cast(Some(77)), CAST_PLACEHOLDER), 0);
            assert_eq!(calls_in(&object.with_cast(None), CAST_PLACEHOLDER), 0);
        }
    }
}
