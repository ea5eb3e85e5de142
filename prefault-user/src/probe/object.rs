//! The BPF objects, and which of them the running kernel can load.

use anyhow::{Context as _, Result};
use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};

static FULL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/prefault-programs"));
static BASIC: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/prefault-programs-basic"));

/// An object, and what it does without.
#[derive(Clone, Copy)]
pub(super) struct Object {
    /// The ELF file.
    pub(super) bytes: &'static [u8],
    /// It has neither task storage nor attach cookies: points are told apart by address, in a map.
    pub(super) is_basic: bool,
}

/// The object for the running kernel, found out by trying what the full one needs.
pub(super) fn object() -> Result<Object> {
    // Task storage came with 5.11, attach cookies with 5.15 (7adfc6c9b315 "bpf: Add bpf_get_attach_cookie() BPF helper").
    for helper in [BpfHelper::BPF_FUNC_task_storage_get, BpfHelper::BPF_FUNC_get_attach_cookie] {
        let supported = is_helper_supported(ProgramType::KProbe, helper);
        if !supported.context("failed to find out which helpers BPF programs may call")? {
            return Ok(Object { bytes: BASIC, is_basic: true });
        }
    }
    Ok(Object { bytes: FULL, is_basic: false })
}
