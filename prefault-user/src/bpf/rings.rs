//! Rings through which the kernel passes single events on, and says that a module is loaded.

use std::io;

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use prefault_ebpf::Event;
use tokio::io::unix::AsyncFd;

/// A ring that can be waited for.
pub struct Ring(AsyncFd<RingBuf<MapData>>);

impl Ring {
    /// It has to be called within a tokio runtime.
    pub(super) fn watch(ring: RingBuf<MapData>) -> Result<Self> {
        // SAFETY: the ring's descriptor stays the same and open for as long as the ring lives.
        unsafe { AsyncFd::register(ring) }.context("failed to wait for the kernel").map(Self)
    }

    /// Waits until somebody has woken this ring.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn ready(&mut self) -> io::Result<()> {
        self.0.readable_mut().await.map(|mut ready| ready.clear_ready())
    }

    /// The next record; the inner `None` is one that is too short for an event.
    pub fn next_event(&mut self) -> Option<Option<Event>> {
        let item = self.0.get_mut().next()?;
        let bytes = item.first_chunk::<{ size_of::<Event>() }>();
        // SAFETY: an event is made of integers, valid for every pattern of bits.
        Some(bytes.map(|bytes| unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() }))
    }

    /// Takes out all records, where only that there were some matters.
    pub fn clear(&mut self) {
        while self.0.get_mut().next().is_some() {}
    }
}
