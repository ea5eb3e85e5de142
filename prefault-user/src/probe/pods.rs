//! The ABI's types as aya wants them: plain data that may be read from and written to maps.

use aya::Pod;
use prefault_ebpf::{Config, FloorSamples, Ledger, N_LOSSES, PathLedger, SlotInfo, TEXT_CHUNK_BYTES};

macro_rules! pods {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {
        $(
            $(#[$doc])*
            #[repr(transparent)]
            #[derive(Clone, Copy)]
            pub struct $name(pub $inner);

            // SAFETY: the type is repr(C), made of integers without padding, and valid for every pattern of bits.
            unsafe impl Pod for $name {}
        )*
    };
}

pods! {
    /// The read-only global.
    PodConfig(Config);
    /// An element of LEDGERS.
    PodLedger(Ledger);
    /// An element of PATH_LEDGERS.
    PodPathLedger(PathLedger);
    /// The element of LOSSES.
    PodLosses([u64; N_LOSSES]);
    /// A value of SLOT_INFO.
    PodSlotInfo(SlotInfo);
    /// An element of FLOOR.
    PodFloorSamples(FloorSamples);
    /// The element of TEXT.
    PodText([u8; TEXT_CHUNK_BYTES]);
}
