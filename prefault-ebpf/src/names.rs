//! Names that both sides use: maps, programs and the read-only global.

/// Names of the maps, each the identifier of its static in `maps.rs`.
pub mod map {
    /// For each slot and CPU, at `slot * n_processors + processor`: [`crate::SlotLedger`].
    pub const LEDGERS: &str = "LEDGERS";
    /// For each CPU: [`crate::Losses`].
    pub const LOSSES: &str = "LOSSES";
    /// [`crate::SlotKey`] to its slot number, `u32`.
    pub const SLOTS: &str = "SLOTS";
    /// For each slot: [`crate::SlotInfo`].
    pub const SLOT_INFO: &str = "SLOT_INFO";
    /// Numbers of slots that are free, `u32`, filled by userspace; a slot is claimed by taking it from here.
    pub const FREE_SLOTS: &str = "FREE_SLOTS";
    /// One element for each processor: contexts of tasks; only the programs look at them.
    pub const PLACES: &str = "PLACES";
    /// Cookies by address of the point, for kernels that have no attach cookies.
    pub const POINTS: &str = "POINTS";
    /// Process ids to measure, a set; the value means nothing.
    pub const PROCESSES: &str = "PROCESSES";
    /// Thread names to measure, 16 bytes padded with NUL, a set.
    pub const COMMS: &str = "COMMS";
    /// The cgroup to measure, with those below it: one element.
    pub const CGROUPS: &str = "CGROUPS";
    /// Filesystem types to measure, 32 bytes padded with NUL, a set.
    pub const FSTYPES: &str = "FSTYPES";
    /// Devices to measure, as the kernel's `dev_t`, a set.
    pub const DEVICES: &str = "DEVICES";
    /// One element, `u64`: see [`crate::timing::SAMPLED`].
    pub const TIMED_BELOW: &str = "TIMED_BELOW";
    /// One element, `u64`: see [`crate::window`].
    pub const WINDOW: &str = "WINDOW";
    /// Two elements, [`crate::FloorSamples`]: of points that are jumps, and of such that are traps.
    pub const FLOOR: &str = "FLOOR";
    /// One element of [`crate::TEXT_CHUNK_BYTES`]: kernel text read by `READ_TEXT`.
    pub const TEXT: &str = "TEXT";
    /// Ring of [`crate::Event`].
    pub const EVENTS: &str = "EVENTS";
    /// Ring of `u64` that mean nothing: one for each module that is loaded.
    pub const MODULES: &str = "MODULES";
}

/// Names of the programs, each the identifier of its entry point in `main.rs`.
pub mod program {
    /// Entry of a write path, by fentry.
    pub const ENTER_FENTRY: &str = "enter_fentry";
    /// Return of a write path, by fexit.
    pub const LEAVE_FEXIT: &str = "leave_fexit";
    /// Entry of a write path, by kprobe.
    pub const ENTER_KPROBE: &str = "enter_kprobe";
    /// Return of a write path, by a kprobe on an instruction that returns from it.
    pub const LEAVE_KPROBE: &str = "leave_kprobe";
    /// Return of a write path, by kretprobe.
    pub const LEAVE_KRETPROBE: &str = "leave_kretprobe";
    /// The call of the prefault.
    pub const PREFAULT_BEGIN: &str = "prefault_begin";
    /// The instruction behind the call of the prefault.
    pub const PREFAULT_END: &str = "prefault_end";
    /// The call of the copy.
    pub const COPY_BEGIN: &str = "copy_begin";
    /// The instruction behind the call of the copy.
    pub const COPY_END: &str = "copy_end";
    /// The instruction behind the call of the prefault, where nothing runs before it.
    pub const PREFAULT_ONLY: &str = "prefault_only";
    /// The instruction behind the call of the copy, where nothing runs before it.
    pub const COPY_ONLY: &str = "copy_only";
    /// A call of the prefault by a function that is not understood.
    pub const PREFAULT_UNATTRIBUTED: &str = "prefault_unattributed";
    /// A call of the copy by a function that is not understood.
    pub const COPY_UNATTRIBUTED: &str = "copy_unattributed";
    /// Return of the prefault or of the copy itself, where the kernel allows probing them directly.
    pub const PREFAULT_RETURN: &str = "prefault_return";
    /// Return of the copy itself, where the kernel allows probing it directly.
    pub const COPY_RETURN: &str = "copy_return";
    /// The first of two points that measure the floor.
    pub const FLOOR_BEGIN: &str = "floor_begin";
    /// The second, of two that are jumps.
    pub const FLOOR_END: &str = "floor_end";
    /// The second, of two that are traps.
    pub const FLOOR_END_OF_TRAPS: &str = "floor_end_of_traps";
    /// A process forks: its child is measured too.
    pub const FOLLOW_FORK: &str = "follow_fork";
    /// A process is gone, and its id may come back.
    pub const FOLLOW_FREE: &str = "follow_free";
    /// A module has been loaded, and has not begun to run.
    pub const MODULE_LOADED: &str = "module_loaded";
    /// Reads kernel text for the scan where /proc/kcore cannot be read.
    pub const READ_TEXT: &str = "read_text";
}

/// Name of the read-only global that holds [`crate::Config`].
pub const CONFIG: &str = "CONFIG";
