//! The contexts of tasks in task storage: they end with the task, and no number of tasks is too many.

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE, task_struct,
    },
    helpers::generated::{bpf_get_attach_cookie, bpf_get_current_task_btf, bpf_task_storage_get},
    macros::btf_map,
};

use crate::context::TaskContext;

/// How members of the current task are read.
pub type TaskMemory = crate::memory::Typed;

/// A task storage map of [`TaskContext`]; aya-ebpf 0.2 has inode and socket storage only.
#[repr(C)]
pub struct TaskStorage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const TaskContext,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers only carry types for the loader and are never followed.
unsafe impl Sync for TaskStorage {}

impl TaskStorage {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// The context of `task`, null if it has none.
    #[inline(always)]
    pub fn get(&self, task: *mut task_struct) -> *mut TaskContext {
        self.lookup(task, 0)
    }

    /// The context of `task`, made of zeros if it had none; null if there is no memory or the storage is busy.
    #[inline(always)]
    pub fn get_or_create(&self, task: *mut task_struct) -> *mut TaskContext {
        self.lookup(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE))
    }

    /// Gives the context of `task` back; it lives as long as the task, for the next write.
    #[inline(always)]
    pub fn release(&self, _task: *mut task_struct) {}

    #[inline(always)]
    fn lookup(&self, task: *mut task_struct, flags: u64) -> *mut TaskContext {
        let map = core::ptr::from_ref(self).cast_mut();
        // SAFETY: the map is of this type and `task` is the current task.
        unsafe { bpf_task_storage_get(map.cast(), task, core::ptr::null_mut(), flags).cast() }
    }
}

#[btf_map]
pub static CONTEXTS: TaskStorage = TaskStorage::new();

/// The current task, typed.
#[inline(always)]
pub fn current_task() -> *mut task_struct {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() }
}

/// What userspace attached a point at the entry or the return of a path with.
#[inline(always)]
pub fn cookie_of<C: EbpfContext>(ctx: &C, _address: Option<u64>) -> u64 {
    // SAFETY: the context is that of the running program.
    unsafe { bpf_get_attach_cookie(ctx.as_ptr()) }
}
