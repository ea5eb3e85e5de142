//! The contexts of tasks in a hash map, and cookies by address: for kernels without task storage and attach cookies.

use aya_ebpf::{
    EbpfContext,
    bindings::task_struct,
    helpers::generated::{bpf_get_current_task, bpf_map_lookup_elem},
    macros::map,
    maps::{Array, HashMap},
};
use prefault_ebpf::{COOKIE_OF_LAST_ENTRY, MAX_POINTS, MAX_TASKS};

use crate::context::TaskContext;

#[map]
static BY_TASK: HashMap<u64, TaskContext> = HashMap::with_max_entries(MAX_TASKS, 0);

/// A context of zeros: it is too large for the stack of a program.
#[map]
static NO_CONTEXT: Array<TaskContext> = Array::with_max_entries(1, 0);

#[map]
static POINTS: HashMap<u64, u64> = HashMap::with_max_entries(MAX_POINTS, 0);

/// The contexts of all tasks that are in a write path.
pub struct TaskHash;

pub static CONTEXTS: TaskHash = TaskHash;

impl TaskHash {
    /// The context of `task`, null if it has none.
    #[inline(always)]
    pub fn get(&self, task: *mut task_struct) -> *mut TaskContext {
        let map = core::ptr::from_ref(&BY_TASK).cast_mut();
        let key = task as u64;
        // SAFETY: the map's key is a u64 and its value a context.
        unsafe { bpf_map_lookup_elem(map.cast(), core::ptr::from_ref(&key).cast()).cast() }
    }

    /// The context of `task`, made of zeros if it had none; null if too many tasks have one.
    #[inline(always)]
    pub fn get_or_create(&self, task: *mut task_struct) -> *mut TaskContext {
        let context = self.get(task);
        if !context.is_null() {
            return context;
        }
        let Some(zeros) = NO_CONTEXT.get(0) else { return core::ptr::null_mut() };
        let _unused = BY_TASK.insert(task as u64, zeros, 0);
        self.get(task)
    }

    /// Gives `context` back if its task, the current one, is in no write path any more.
    #[inline(always)]
    pub fn release(&self, context: *mut TaskContext) {
        // SAFETY: the context belongs to this task.
        if unsafe { (*context).depth } == 0 {
            let _unused = BY_TASK.remove(current_task() as u64);
        }
    }
}

/// The current task; only its address is used.
#[inline(always)]
pub fn current_task() -> *mut task_struct {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() as *mut task_struct }
}

/// What userspace attached the point at `address` with. At a return the address is that of a trampoline, which says
/// nothing.
#[inline(always)]
pub fn cookie_of<C: EbpfContext>(_ctx: &C, address: Option<u64>) -> u64 {
    let Some(address) = address else { return COOKIE_OF_LAST_ENTRY };
    let map = core::ptr::from_ref(&POINTS).cast_mut();
    // SAFETY: the map's key and value are u64, and a value that was found stays valid until the program ends.
    unsafe {
        let cookie = bpf_map_lookup_elem(map.cast(), core::ptr::from_ref(&address).cast()).cast::<u64>();
        if cookie.is_null() { COOKIE_OF_LAST_ENTRY } else { *cookie }
    }
}
