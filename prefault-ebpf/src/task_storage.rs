//! The contexts of tasks: each in the place of the processor that its task enters a write path on, if that is free, and else
//! in task storage, where no number of tasks is too many and nothing outlives them.
//!
//! A place stays with its task until another one takes it, so that a task that writes again and again on one processor looks
//! nothing up: task storage takes 130 instructions each time, four to six times a write. A task that was moved to another
//! processor inside a write finds its place through task storage.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE, task_struct,
    },
    helpers::generated::{bpf_get_attach_cookie, bpf_get_current_task_btf, bpf_task_storage_get},
    macros::{btf_map, map},
    maps::Array,
};

use crate::{
    context::TaskContext,
    maps::{config, processor},
    memory::{Memory as _, TaskMemory},
    windows,
};

/// A task's own context, for when it has no place, and where it has one.
#[repr(C)]
pub struct Stored {
    /// The processor whose place it took last, and 1; 0 if it never did. Another task may have taken it since.
    home: u64,
    context: TaskContext,
}

/// A processor's place: the context of one task. Cache lines are not shared with those of others.
#[repr(C, align(64))]
pub struct Place {
    /// Address of the task, 0 if there was none yet.
    task: u64,
    /// When that task was started: addresses come back.
    started: u64,
    context: TaskContext,
}

/// One for each processor; userspace knows how many there are.
#[map]
static PLACES: Array<Place> = Array::with_max_entries(1, 0);

/// A task storage map of [`Stored`]; aya-ebpf 0.2 has inode and socket storage only.
#[repr(C)]
pub struct TaskStorage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const Stored,
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

    /// The context of `task`, the current one; null if it has none.
    #[inline(always)]
    pub fn get(&self, task: *mut task_struct) -> *mut TaskContext {
        let holder = Holder::of(task);
        let here = holder.place_here();
        if !here.is_null() {
            return here;
        }
        let stored = self.lookup(task, 0);
        if stored.is_null() {
            return core::ptr::null_mut();
        }
        holder.context_of(stored)
    }

    /// The context of `task`, the current one, made of zeros if it had none; null if there is no memory or the storage is
    /// busy. To be given back.
    #[inline(always)]
    pub fn get_or_create(&self, task: *mut task_struct) -> *mut TaskContext {
        let holder = Holder::of(task);
        let here = holder.place_here();
        if !here.is_null() {
            // SAFETY: the context belongs to this task.
            unsafe { (*here).is_used = 1 };
            return here;
        }
        let stored = self.lookup(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE));
        if stored.is_null() {
            return core::ptr::null_mut();
        }
        holder.move_in(stored)
    }

    /// Gives `context` back if its task is in no write path any more; it stays the task's until another one wants it.
    #[inline(always)]
    pub fn release(&self, context: *mut TaskContext) {
        // SAFETY: the context belongs to this task.
        unsafe {
            if (*context).depth == 0 {
                (&raw mut (*context).is_used).write_volatile(0);
            }
        }
    }

    #[inline(always)]
    fn lookup(&self, task: *mut task_struct, flags: u64) -> *mut Stored {
        let map = core::ptr::from_ref(self).cast_mut();
        // SAFETY: the map is of this type and `task` is the current task.
        unsafe { bpf_task_storage_get(map.cast(), task, core::ptr::null_mut(), flags).cast() }
    }
}

/// The current task, as places know it.
#[derive(Clone, Copy)]
struct Holder {
    task: u64,
    started: u64,
}

impl Holder {
    #[inline(always)]
    fn of(task: *mut task_struct) -> Self {
        let started = TaskMemory::read(task.cast::<u8>().cast_const(), config!(offsets.task_start_time));
        Self { task: task as u64, started: started.unwrap_or(0) }
    }

    /// The context in this processor's place if it is this task's, else null.
    #[inline(always)]
    fn place_here(self) -> *mut TaskContext {
        self.place(processor())
    }

    #[inline(always)]
    fn place(self, processor: u32) -> *mut TaskContext {
        match PLACES.get_ptr_mut(processor) {
            // SAFETY: the place is a live map value.
            Some(place) if unsafe { self.holds(place) } => unsafe { &raw mut (*place).context },
            _ => core::ptr::null_mut(),
        }
    }

    #[inline(always)]
    unsafe fn holds(self, place: *mut Place) -> bool {
        // SAFETY: the caller passes a live map value. Volatile: another task may become the holder.
        unsafe { (&raw const (*place).task).read_volatile() == self.task && (*place).started == self.started }
    }

    /// The context that is in use: the one in the place that was taken last, unless it was left.
    #[inline(always)]
    fn context_of(self, stored: *mut Stored) -> *mut TaskContext {
        // SAFETY: what is stored for a task belongs to it.
        let away = self.place((unsafe { (*stored).home } as u32).wrapping_sub(1));
        if away.is_null() { unsafe { &raw mut (*stored).context } } else { away }
    }

    /// As [`Holder::context_of`], for a task that enters a write path: takes this processor's place if the task is in no
    /// path yet and nobody in one has the place.
    #[inline(always)]
    fn move_in(self, stored: *mut Stored) -> *mut TaskContext {
        // SAFETY: what is stored for a task belongs to it.
        unsafe {
            let own = &raw mut (*stored).context;
            // Being used is a matter of places: what is stored is nobody else's.
            if (*own).depth > 0 && windows::now().is_of(own) {
                return own;
            }
            let processor = processor();
            let home = ((*stored).home as u32).wrapping_sub(1);
            if let Some(away) = PLACES.get_ptr_mut(home) {
                // In this order: who takes the place is its holder before using it, so that the use seen is this task's own.
                let is_used = is_in_use(&raw mut (*away).context);
                if self.holds(away) {
                    if is_used {
                        return &raw mut (*away).context;
                    }
                    // It would be found there by chance, while the context is elsewhere.
                    exchange(away, self.task, 0);
                }
            }
            let Some(place) = PLACES.get_ptr_mut(processor) else { return own };
            let holder = (&raw const (*place).task).read_volatile();
            if is_in_use(&raw mut (*place).context) || exchange(place, holder, self.task) != holder {
                return own;
            }
            (*place).started = self.started;
            (*place).context.depth = 0;
            (*place).context.pending = 0;
            (*place).context.is_used = 1;
            (*stored).home = u64::from(processor) + 1;
            &raw mut (*place).context
        }
    }
}

/// Whether the task of `context` is in a path, of a window that is not over.
#[inline(always)]
unsafe fn is_in_use(context: *mut TaskContext) -> bool {
    // SAFETY: the caller passes a live map value.
    unsafe { (&raw const (*context).is_used).read_volatile() != 0 && windows::now().is_of(context) }
}

/// Makes `new` the holder of `place` if it is `old`; returns who it was.
///
/// Written out because the target has no atomic operations in core (the kernel has this one from 5.12 on).
#[inline(always)]
unsafe fn exchange(place: *mut Place, old: u64, new: u64) -> u64 {
    let was;
    // SAFETY: the caller passes a live map value, whose first member is the holder.
    unsafe {
        asm!("r0 = cmpxchg_64({place} + 0, r0, {new})", place = in(reg) place, new = in(reg) new,
             inlateout("r0") old => was);
    }
    was
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
