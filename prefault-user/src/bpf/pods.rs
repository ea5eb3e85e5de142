//! The ABI's types as aya wants them: plain data that may be read from and written to maps.

use aya::Pod;
use prefault_ebpf::{Config, FloorSamples, Losses, SlotInfo, SlotLedger, TEXT_CHUNK_BYTES};

macro_rules! pods {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {
        $(
            $(#[$doc])*
            #[repr(transparent)]
            #[derive(Clone, Copy)]
            pub struct $name(pub $inner);

            // SAFETY: the type is repr(C), made of integers, with padding only in what is read and never written, and valid for
            // every pattern of bits.
            unsafe impl Pod for $name {}
        )*
    };
}

pods! {
    /// The read-only global.
    PodConfig(Config);
    /// An element of LEDGERS.
    PodSlotLedger(SlotLedger);
    /// An element of LOSSES.
    PodLosses(Losses);
    /// An element of SLOT_INFO.
    PodSlotInfo(SlotInfo);
    /// An element of FLOOR.
    PodFloorSamples(FloorSamples);
    /// The element of TEXT.
    PodText([u8; TEXT_CHUNK_BYTES]);
}
