//! Filters: which tasks and which filesystems are measured.
//!
//! A task is judged before anything else is done, so that a write that is filtered out costs little; a filesystem is
//! judged once, when it is first met, and remembered as a slot.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel_str_bytes};
use prefault_ebpf::{Loss, SlotInfo, filter};

use crate::{
    loss::lose,
    maps::{CGROUPS, COMMS, DEVICES, FSTYPES, PROCESSES, config},
    memory::{Memory, TaskMemory, Untyped},
    tasks::current_task,
};

/// Whether writes of the current task are measured.
#[inline(always)]
pub fn measures_task() -> bool {
    let filter = config!(filter);
    if filter & filter::PROCESSES != 0 && !measures_process((bpf_get_current_pid_tgid() >> 32) as u32) {
        return false;
    }
    if filter & filter::COMMS != 0 && !measures_name() {
        return false;
    }
    filter & filter::CGROUP == 0 || CGROUPS.current_task_under_cgroup(0) == Ok(true)
}

#[inline(always)]
fn measures_process(process: u32) -> bool {
    match config!(only_process) {
        0 => PROCESSES.get_ptr(process).is_some(),
        only => only == process,
    }
}

/// Whether the current thread, or the first thread of its process, has one of the names. The second counts because an io_uring
/// worker, which writes for the process, has a name of its own (`iou-wrk-N`, io_uring/io-wq.c).
#[inline(always)]
fn measures_name() -> bool {
    if bpf_get_current_comm().is_ok_and(|comm| COMMS.get_ptr(&comm).is_some()) {
        return true;
    }
    let task = current_task().cast::<u8>().cast_const();
    let Some(leader) = TaskMemory::read::<*const u8>(task, config!(offsets.task_group_leader)) else { return false };
    let mut comm = [0; 16];
    // SAFETY: the helper checks the address, and ends at the NUL: what may be left behind it of a longer name is no part of the key.
    let read =
        unsafe { bpf_probe_read_kernel_str_bytes(leader.wrapping_add(config!(offsets.task_comm) as usize), &mut comm) };
    read.is_ok() && COMMS.get_ptr(&comm).is_some()
}

/// Whether writes to this filesystem are measured.
#[inline(always)]
pub fn measures_filesystem(info: &SlotInfo) -> bool {
    let filter = config!(filter);
    (filter & filter::FSTYPES == 0 || FSTYPES.get_ptr(&info.fstype).is_some())
        && (filter & filter::DEVICES == 0 || DEVICES.get_ptr(info.key.dev).is_some())
}

/// The current process has made `child`, a task: it is measured if its parent is.
#[inline(always)]
pub fn follow_fork(child: *const u8) {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(child) = Untyped::read::<u32>(child, config!(offsets.task_tgid)) else { return };
    if child != parent && PROCESSES.get_ptr(parent).is_some() && PROCESSES.insert(child, 0, 0).is_err() {
        lose(Loss::NotFollowed, 1);
    }
}

/// `task` is gone: if it was the first of its process, whose id it has, that may come back for another. Its end says nothing:
/// other threads may go on, and one that executes a program takes its id over (fs/exec.c, de_thread).
#[inline(always)]
pub fn follow_free(task: *const u8) {
    if let Some(id) = Untyped::read::<u32>(task, config!(offsets.task_pid)) {
        let _unused = PROCESSES.remove(id);
    }
}
