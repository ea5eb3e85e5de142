//! What is remembered of a task between its probes: the write paths it is in, and the operation it has called.
//!
//! Only the programs see this; userspace never reads it.

use prefault_ebpf::masked;

/// Frames of one task: a path inside a path, on a stacked filesystem, twice over (ecryptfs and cachefiles write through
/// a lower filesystem in the same task; nothing deeper is known).
pub const MAX_DEPTH: usize = 4;

/// One write path that a task is in.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Stack address at the entry; an inner frame's is lower.
    pub stack: u64,
    /// Address of the inode written to.
    pub inode: u64,
    /// When the path was entered.
    pub start_ns: u64,
    /// `ki_pos` at the entry.
    pub position: u64,
    /// `iov_iter.count` at the first prefault or copy.
    pub iter_count: u64,
    /// Bytes returned by copying paths inside this frame.
    pub inner_bytes: u64,
    /// Bytes copied in this frame and the frames inside it.
    pub copied: u64,
    /// Slot of the filesystem.
    pub slot: u32,
    /// Number of the path.
    pub path: u32,
    /// `frame_flag` bits.
    pub flags: u32,
    /// Prefaults called by this frame.
    pub prefaults: u32,
    /// Copies called by this frame.
    pub copies: u32,
    /// Writes that ended inside this frame and were not counted, being part of it.
    pub inner_writes: u32,
    /// Copies called by frames inside this one.
    pub inner_copies: u32,
    /// Padding, always 0.
    pub reserved: u32,
}

/// Bits of [`Frame::flags`].
pub mod frame_flag {
    /// The frame has called the prefault.
    pub const PREFAULTED: u32 = 1;
    /// The frame has called the copy.
    pub const COPIED: u32 = 2;
    /// The first copy came after a prefault.
    pub const EAGER: u32 = 4;
    /// The source of the write is known.
    pub const SOURCE_KNOWN: u32 = 8;
    /// The source of the write is kernel memory.
    pub const FROM_KERNEL: u32 = 16;
    /// The frame is part of the write of the frame below it.
    pub const INNER: u32 = 32;
    /// The write is timed.
    pub const TIMED: u32 = 512;
    /// The path copies.
    pub const COPIES: u32 = 256;
    /// The frame's filesystem is not measured.
    pub const FILTERED: u32 = 128;
    /// It is a buffered write: it was not asked to be direct I/O, or a path that copies has begun to all the same.
    pub const BUFFERED: u32 = 64;
    /// It was asked to be direct I/O.
    pub const DIRECT: u32 = 1024;
    /// The last operation was a prefault that faulted everything in.
    pub const FAULTED_IN: u32 = 2048;
}

/// State of one task.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TaskContext {
    /// Number of frames in use.
    pub depth: u32,
    /// The operation that was called and has not returned: a [`Pending`] value.
    pub pending: u32,
    /// 1 from entering an outermost path to the end of leaving it: nobody else may have the context then.
    pub is_used: u32,
    /// The window in which the task entered a path last, as [`crate::windows`] numbers them.
    pub window: u32,
    /// When the pending operation was called.
    pub start_ns: u64,
    /// Bytes the pending operation was asked for, or [`UNKNOWN`].
    pub asked: u64,
    /// Address of the pending operation's iterator.
    pub iter: u64,
    /// The task's minor faults when the pending prefault was called, or as [`crate::operation::remember_faults`] says.
    pub min_flt: u64,
    /// The task's major faults then.
    pub maj_flt: u64,
    /// The filesystem the task wrote to last.
    pub last: LastSlot,
    /// The write paths the task is in, outermost first.
    pub frames: [Frame; MAX_DEPTH],
}

/// What identifies a filesystem, and its slot: a task mostly writes to the one it wrote to before, and comparing costs a
/// tenth of looking it up. A slot belongs to one filesystem for as long as the programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LastSlot {
    /// As in `SlotKey`; 0 if there is none yet.
    pub fs_type: u64,
    /// As in `SlotKey`.
    pub dev: u32,
    /// The slot.
    pub slot: u32,
}

/// Values of [`TaskContext::pending`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Neither.
    Nothing = 0,
    /// The prefault.
    Prefault = 1,
    /// The copy.
    Copy = 2,
}

/// Value of [`TaskContext::asked`] if it is only known behind the call.
pub const UNKNOWN: u64 = u64::MAX;

/// Frame number `index` of a context; an index below [`MAX_DEPTH`] is the caller's duty.
#[inline(always)]
pub fn frame_at(context: *mut TaskContext, index: u32) -> *mut Frame {
    // SAFETY: the index is below MAX_DEPTH, a power of two.
    unsafe { (&raw mut (*context).frames).cast::<Frame>().add(masked::<{ MAX_DEPTH - 1 }>(index as usize)) }
}
