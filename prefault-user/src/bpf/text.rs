//! Kernel text through bpf_probe_read_kernel, where /proc/kcore cannot be read: some containers hide it.

use std::{cell::RefCell, io};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use prefault_ebpf::{TEXT_CHUNK_BYTES, map, program};

use super::{load::despite_signals, mapped::Mapped, pods::PodText};
use crate::kernel::text::ReadText;

/// A program that copies kernel text into a map, run once per piece.
struct BpfText {
    inner: RefCell<Inner>,
}

struct Inner {
    bpf: Ebpf,
    chunk: Mapped<PodText>,
}

/// Loads the program that reads text.
///
/// # Errors
/// If BPF programs cannot be loaded here.
pub fn text_through_bpf() -> Result<Box<dyn ReadText>> {
    let mut bpf = EbpfLoader::new()
        .allow_unsupported_maps()
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .load(super::object::object()?.bytes)?;
    let chunk = Mapped::take(&mut bpf, map::TEXT)?;
    let program = program_of(&mut bpf)?;
    despite_signals(|| program.load()).context("failed to load the program that reads kernel text")?;
    Ok(Box::new(BpfText { inner: RefCell::new(Inner { bpf, chunk }) }))
}

fn program_of(bpf: &mut Ebpf) -> Result<&mut RawTracePoint> {
    let program = bpf.program_mut(program::READ_TEXT).ok_or_else(|| anyhow!("the object has no reader of text"))?;
    Ok(program.try_into()?)
}

impl Inner {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let mut options = RawTracePointRunOptions::new();
        options.args[..2].copy_from_slice(&[address, bytes.len() as u64]);
        let result = program_of(&mut self.bpf)?.test_run(options)?;
        if result.return_value != 0 {
            return Err(anyhow!("bpf_probe_read_kernel failed at {address:#x}"));
        }
        let PodText(chunk) = self.chunk.get(0);
        bytes.copy_from_slice(&chunk[..bytes.len()]);
        Ok(())
    }
}

impl ReadText for BpfText {
    fn read_text(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        for (index, chunk) in bytes.chunks_mut(TEXT_CHUNK_BYTES).enumerate() {
            inner.read(address.wrapping_add((index * TEXT_CHUNK_BYTES) as u64), chunk).map_err(io::Error::other)?;
        }
        Ok(())
    }
}
