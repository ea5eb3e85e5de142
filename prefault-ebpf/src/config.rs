//! The constants that userspace gives the programs: facts of the running kernel, and options.

/// What the running kernel looks like and what the user asked for, fixed before the programs are loaded.
///
/// The verifier sees these as constants, so that an unused branch is no code at all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Member offsets, from the running kernel's BTF.
    pub offsets: Offsets,
    /// Types that pointers can be given, all 0 where the kernel cannot do that.
    pub types: TypeIds,
    /// Bit n is set if `iter_type & !iter_type_ignored == n` means user memory (ITER_UBUF, ITER_IOVEC).
    pub user_iter_types: u32,
    /// The `iter_type` value of ITER_UBUF, or `u32::MAX` where the kernel has none (before 6.0).
    pub ubuf_iter_type: u32,
    /// Bits of `iter_type` that do not belong to the type: the direction, before 5.14.
    pub iter_type_ignored: u32,
    /// Which argument of the copy is the number of bytes, counted from 0.
    pub copy_bytes_argument: u32,
    /// Which argument of the copy is the iterator, counted from 0.
    pub copy_iter_argument: u32,
    /// 1 if the copy leaves the iterator where it was (`iov_iter_copy_from_user_atomic`, before 5.14).
    pub copy_keeps_iter: u32,
    /// 1 if the prefault returns 0 or -EFAULT (before 5.16), 0 if it returns the bytes not faulted in.
    pub prefault_returns_errno: u32,
    /// 1 to send short copies and failed prefaults through the event ring.
    pub events: u32,
    /// [`filter`] bits.
    pub filter: u32,
    /// The only process to measure, 0 if there are none or several.
    pub only_process: u32,
    /// A [`timing`] value.
    pub timing: u32,
    /// 1 if writes are only counted in windows, see [`window`].
    pub windows: u32,
    /// The process that measures the floor.
    pub floor_process: u32,
    /// 1 if operations may have one point, behind the call: the faults of a prefault are then those since the task entered the
    /// path, or since its last operation there.
    pub single_points: u32,
    /// How many processors there can be: each has parts of its own in the maps.
    pub n_processors: u32,
}

/// Values of [`Config::timing`]: which writes are timed, with their prefaults and copies. All are counted.
pub mod timing {
    /// None.
    pub const NONE: u32 = 0;
    /// Every one.
    pub const ALL: u32 = 1;
    /// Those for which a random number of 32 bits is below the one in [`crate::map::TIMED_BELOW`].
    pub const SAMPLED: u32 = 2;
}

/// The value in [`crate::map::WINDOW`]: one of these in the low bits, and above them a number that changes with each window.
pub mod window {
    /// Writes that begin are counted.
    pub const OPEN: u32 = 0;
    /// Writes that have begun are still counted to their end.
    pub const CLOSING: u32 = 1;
    /// Nothing is counted.
    pub const SHUT: u32 = 2;
    /// Mask of these.
    pub const STATE: u32 = 3;
    /// A bit beside one of these: calls that begin and are not of a window are counted as passing by.
    pub const PASSING: u32 = 4;
    /// Mask of all that is below the number.
    pub const LOW_BITS: u32 = 7;
}

/// Bits of [`Config::filter`]: what a write has to match, all that are set.
pub mod filter {
    /// Its process is in [`crate::map::PROCESSES`], or is [`super::Config::only_process`].
    pub const PROCESSES: u32 = 1;
    /// The name of its thread, or of the first thread of its process, is in [`crate::map::COMMS`].
    pub const COMMS: u32 = 2;
    /// Its thread is in the cgroup of [`crate::map::CGROUPS`].
    pub const CGROUP: u32 = 4;
    /// Its filesystem's type is in [`crate::map::FSTYPES`].
    pub const FSTYPES: u32 = 8;
    /// Its filesystem's device is in [`crate::map::DEVICES`].
    pub const DEVICES: u32 = 16;
}

/// Byte offsets of kernel structure members.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `kiocb.ki_filp`
    pub kiocb_filp: u32,
    /// `kiocb.ki_pos`
    pub kiocb_pos: u32,
    /// `file.f_mapping`
    pub file_mapping: u32,
    /// `address_space.host`
    pub mapping_host: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_rdev`
    pub inode_rdev: u32,
    /// `super_block.s_dev`
    pub sb_dev: u32,
    /// `super_block.s_type`
    pub sb_type: u32,
    /// `super_block.s_id`
    pub sb_id: u32,
    /// `file_system_type.name`
    pub type_name: u32,
    /// `task_struct.min_flt`
    pub task_min_flt: u32,
    /// `task_struct.maj_flt`
    pub task_maj_flt: u32,
    /// `task_struct.start_time`
    pub task_start_time: u32,
    /// `iov_iter.iter_type`, or `iov_iter.type` before 5.14
    pub iter_type: u32,
    /// `iov_iter.iov_offset`
    pub iter_offset: u32,
    /// `iov_iter.count`
    pub iter_count: u32,
    /// `iov_iter.ubuf`, `.__iov` or `.iov`: one union
    pub iter_base: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `kiocb.ki_flags`
    pub kiocb_flags: u32,
    /// `file.f_flags`.
    pub file_flags: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
}

/// Numbers of structures in the BTF of the running kernel, for `bpf_rdonly_cast`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeIds {
    /// `struct kiocb`
    pub kiocb: u32,
    /// `struct file`
    pub file: u32,
    /// `struct iov_iter`
    pub iov_iter: u32,
}

/// Stands, in the object, for the BTF number of `bpf_rdonly_cast` in the calls of it, which userspace puts there before
/// loading: aya 0.14 does not resolve calls of kernel functions.
pub const CAST_PLACEHOLDER: u32 = 0x7072_6566;

const _: () = {
    assert!(size_of::<Offsets>() == 24 * 4);
    assert!(size_of::<Config>() == size_of::<Offsets>() + size_of::<TypeIds>() + 15 * 4);
};
