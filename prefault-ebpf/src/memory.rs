//! Reading kernel memory: members of structures, by the offsets of the running kernel.

use core::{arch::asm, mem::MaybeUninit};

use aya_ebpf::{
    bindings::task_struct,
    helpers::{self, bpf_probe_read_kernel},
};
use prefault_ebpf::{CAST_PLACEHOLDER, COOKIE_FILE, COOKIE_POSITION_IS_THIRD, opaque};

use crate::arch;
use crate::maps::config;

/// A way to read a member of a kernel structure.
pub trait Memory {
    /// Reads the `T` at `base + offset`.
    fn read<T: Copy>(base: *const u8, offset: u32) -> Option<T>;

    /// Reads two members of one structure, the first of which need not be the lower one.
    #[inline(always)]
    fn read_both<A: Copy, B: Copy>(base: *const u8, first: u32, second: u32) -> Option<(A, B)> {
        Some((Self::read(base, first)?, Self::read(base, second)?))
    }
}

/// Bytes of a structure that are read at once, at most.
const WINDOW_BYTES: u32 = 64;

/// Loads through pointers whose type the verifier knows (arguments of fentry, the current task): a tenth of the cost of
/// a helper call, and a bad address reads as 0.
pub struct Typed;

/// Reads through bpf_probe_read_kernel, for pointers the verifier knows nothing about.
pub struct Untyped;

/// For pointers that [`cast`] gave a type, if the kernel can: [`Typed`] then, else [`Untyped`].
pub struct Cast;

/// Gives a pointer the type number `type_id` of [`prefault_ebpf::TypeIds`], or none if that is 0.
///
/// The call of `bpf_rdonly_cast` (kernel/bpf/helpers.c, 6.2), which the verifier makes a move, is written out in bytes: the
/// assembler has no form for a call of a kernel function without a symbol. Where the kernel has no such function, userspace
/// makes it that move itself.
#[inline(always)]
pub fn cast(pointer: *const u8, type_id: u32) -> *const u8 {
    if type_id == 0 {
        return pointer;
    }
    let typed: *const u8;
    // SAFETY: the function has no effect but its result, and clobbers what every call does.
    unsafe {
        asm!(
            ".byte 0x85, 0x20, 0, 0",
            ".long {placeholder}",
            placeholder = const CAST_PLACEHOLDER,
            inlateout("r1") pointer => _,
            inlateout("r2") u64::from(type_id) => _,
            lateout("r0") typed,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
            options(pure, nomem, nostack),
        );
    }
    typed
}

impl Memory for Typed {
    #[inline(always)]
    fn read<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
        // SAFETY: the verifier checks the access against the type and the kernel catches a fault.
        Some(unsafe { core::ptr::read_volatile(base.add(offset as usize).cast()) })
    }
}

impl Memory for Untyped {
    #[inline(always)]
    fn read<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_kernel(base.add(offset as usize).cast()) }.ok()
    }

    /// One call of the helper, which is what reading costs, if the members are near each other.
    #[inline(always)]
    fn read_both<A: Copy, B: Copy>(base: *const u8, first: u32, second: u32) -> Option<(A, B)> {
        // Both keep their alignment in the window.
        let low = first.min(second) & !7;
        let (first_at, second_at) = (first - low, second - low);
        let length = first_at.max(second_at) + size_of::<u64>() as u32;
        if length > WINDOW_BYTES {
            return Some((Self::read(base, first)?, Self::read(base, second)?));
        }
        // Not filled with zeros: that is a loop over bytes, and dearer than the helper.
        let mut window = MaybeUninit::<[u64; WINDOW_BYTES as usize / size_of::<u64>()]>::uninit();
        let bytes = window.as_mut_ptr().cast::<u8>();
        // SAFETY: the helper checks the address and fills `length` bytes of the window, within which both members end. The
        // offsets are constants to the verifier.
        unsafe {
            if helpers::generated::bpf_probe_read_kernel(bytes.cast(), length, base.add(low as usize).cast()) != 0 {
                return None;
            }
            Some((bytes.add(first_at as usize).cast::<A>().read(), bytes.add(second_at as usize).cast::<B>().read()))
        }
    }
}

impl Memory for Cast {
    #[inline(always)]
    fn read<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
        if config!(types.kiocb) == 0 { Untyped::read(base, offset) } else { Typed::read(base, offset) }
    }

    #[inline(always)]
    fn read_both<A: Copy, B: Copy>(base: *const u8, first: u32, second: u32) -> Option<(A, B)> {
        if config!(types.kiocb) == 0 {
            Untyped::read_both(base, first, second)
        } else {
            Typed::read_both(base, first, second)
        }
    }
}

/// The word at `address`. Where pointers can be given a type it is read as a member that is a word: a load takes 10
/// instructions, the helper 185.
#[inline(always)]
pub fn word_at(address: u64) -> Option<u64> {
    let offset = config!(offsets.iter_count);
    let iter = address.wrapping_sub(u64::from(offset)) as *const u8;
    Cast::read(cast(iter, config!(types.iov_iter)), offset)
}

/// How members of the current task are read.
#[cfg(not(feature = "legacy"))]
pub type TaskMemory = Typed;
/// How members of the current task are read, by kernels that know no typed one.
#[cfg(feature = "legacy")]
pub type TaskMemory = Untyped;

/// Minor and major faults that `task` has taken; only the task itself changes them (mm/memory.c, mm_account_fault).
#[inline(always)]
pub fn faults_of(task: *mut task_struct) -> (u64, u64) {
    let task = task.cast::<u8>().cast_const();
    (
        TaskMemory::read(task, config!(offsets.task_min_flt)).unwrap_or(0),
        TaskMemory::read(task, config!(offsets.task_maj_flt)).unwrap_or(0),
    )
}

/// Where a write goes.
pub struct Target {
    /// The inode, of the mapping and not of the file: for a block device they differ.
    pub inode: *const u8,
    /// The superblock.
    pub superblock: *const u8,
    /// Number of the device that the inode is, 0 if it is none.
    pub rdev: u32,
    /// Position of the first byte.
    pub position: u64,
}

/// `IOCB_DIRECT` (include/linux/fs.h), the same bit in 5.10 to 7.3.
const IOCB_DIRECT: u32 = 1 << 17;

/// Whether the write is meant to bypass the page cache, by the first argument of its path: a kiocb, or a file.
#[inline(always)]
pub fn is_direct<M: Memory>(first: *const u8, cookie: u64) -> bool {
    // What cannot be read is taken for the rarer kiocb and the more frequent file.
    if cookie & COOKIE_FILE == 0 {
        let flags: u32 = M::read(first, config!(offsets.kiocb_flags)).unwrap_or(IOCB_DIRECT);
        opaque(flags.into()) as u32 & IOCB_DIRECT != 0
    } else {
        let flags: u32 = M::read(first, config!(offsets.file_flags)).unwrap_or(0);
        opaque(flags.into()) as u32 & arch::O_DIRECT != 0
    }
}

/// The first three arguments of a write path; what the last two are depends on the path.
pub type Arguments = (*const u8, u64, u64);

/// Follows the arguments of a path to where it writes: a kiocb, or a file and a position.
#[inline(always)]
pub fn target_of<M: Memory>(arguments: Arguments, cookie: u64) -> Option<Target> {
    let (first, second, third) = arguments;
    let (file, position): (*const u8, u64) = if cookie & COOKIE_FILE == 0 {
        M::read_both(first, config!(offsets.kiocb_filp), config!(offsets.kiocb_pos))?
    } else {
        (first, if cookie & COOKIE_POSITION_IS_THIRD == 0 { second } else { third })
    };
    let mapping: *const u8 = M::read(file, config!(offsets.file_mapping))?;
    let inode: *const u8 = M::read(mapping, config!(offsets.mapping_host))?;
    let (superblock, rdev) = M::read_both(inode, config!(offsets.inode_sb), config!(offsets.inode_rdev))?;
    Some(Target { inode, superblock, rdev, position })
}
