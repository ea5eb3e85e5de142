//! Windows: with a limit to what measuring may cost, writes are counted that begin while a window is open. A window that
//! closes lets those end that began in it. While none is open, calls of write paths are at most counted as passing by.

use aya_ebpf::EbpfContext;
use prefault_ebpf::{FILTERED_SLOT, window};

use crate::{
    context::{LastSlot, TaskContext},
    loss::add_preemptible,
    maps::{WINDOW, config, ledger_of, path_of},
    memory::{Arguments, Memory, target_of},
    slots::slot_of,
};

/// What userspace last said.
#[derive(Clone, Copy)]
pub struct Window(u32);

/// The window there is now. Without a limit it is always the first one, and open.
#[inline(always)]
pub fn now() -> Window {
    if config!(windows) == 0 {
        return Window(window::OPEN);
    }
    Window(WINDOW.get(0).map_or(window::SHUT, |&word| word as u32))
}

impl Window {
    /// Whether writes that begin now are counted.
    #[inline(always)]
    pub fn is_open(self) -> bool {
        self.0 & window::STATE == window::OPEN
    }

    /// Whether no write is counted, not even one that has begun.
    #[inline(always)]
    pub fn is_shut(self) -> bool {
        self.0 & window::STATE == window::SHUT
    }

    /// Whether writes that begin and are not of a window are counted as passing by.
    #[inline(always)]
    pub fn is_passing(self) -> bool {
        self.0 & window::PASSING != 0
    }

    /// Whether the task of `context` has entered a path in this window.
    #[inline(always)]
    pub fn is_of(self, context: *mut TaskContext) -> bool {
        // SAFETY: the context belongs to this task, or to another one that at worst changes it now.
        unsafe { (*context).window == self.number() }
    }

    /// Makes `context` one of this window. Frames of an earlier window are of writes that were given up with it.
    #[inline(always)]
    pub fn adopt(self, context: *mut TaskContext) {
        if !self.is_of(context) {
            // SAFETY: the context belongs to this task.
            unsafe {
                (*context).depth = 0;
                (*context).pending = 0;
                (*context).window = self.number();
            }
        }
    }

    /// A number that no other window has had for a long time; never 0, which is that of a new context.
    #[inline(always)]
    fn number(self) -> u32 {
        self.0 | window::LOW_BITS
    }
}

/// Counts a call of a path between windows, if so told. As a function of its own it would cost 107 instructions of a write more
/// on 6.12.
#[inline(always)]
pub fn pass_by<M: Memory, C: EbpfContext>(ctx: &C, arguments: Arguments, cookie: u64, is_counted: bool) {
    if !is_counted {
        return;
    }
    let target = target_of::<M>(arguments, cookie);
    let slot = slot_of::<M, C>(ctx, target.as_ref(), &mut LastSlot { fs_type: 0, dev: 0, slot: 0 });
    if slot == FILTERED_SLOT {
        return;
    }
    if let Some(ledger) = ledger_of(slot) {
        // SAFETY: the ledger is a live map value.
        add_preemptible(unsafe { &raw mut (*path_of(ledger, cookie as u32)).passed }, 1);
    }
}
