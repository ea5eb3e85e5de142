//! Entry points of the BPF programs, one per way of attaching; the work is in `write.rs` and `operation.rs`.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod arch;
mod clock;
mod context;
mod counting;
mod events;
mod filters;
mod floor;
mod loss;
mod maps;
mod memory;
#[cfg_attr(feature = "legacy", path = "messages_legacy.rs")]
mod messages;
mod operation;
mod slots;
#[cfg_attr(feature = "legacy", path = "task_hash.rs")]
#[cfg_attr(not(feature = "legacy"), path = "task_storage.rs")]
mod tasks;
mod windows;
mod write;

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_RB_FORCE_WAKEUP, pt_regs},
    helpers::generated::bpf_probe_read_kernel,
    macros::{fentry, fexit, kprobe, kretprobe, raw_tracepoint},
    programs::{FEntryContext, FExitContext, ProbeContext, RawTracePointContext, RetProbeContext},
};
use prefault_ebpf::{COOKIE_FILE, Loss, TEXT_CHUNK_BYTES};

use crate::{
    arch::{arguments_behind, arguments_of, asked_behind, is_shared},
    context::{Pending, UNKNOWN},
    maps::config,
    memory::{Cast, Typed, cast},
    tasks::cookie_of,
};

#[fentry]
fn enter_fentry(ctx: FEntryContext) -> u32 {
    // The context of a trampoline is on the stack of the task.
    let stack = ctx.as_ptr() as u64;
    // Trampolines are attached with cookies of paths that take a kiocb, where nothing but the first argument counts.
    write::enter::<Typed, _>(&ctx, (ctx.arg(0), 0, 0), stack, cookie_of(&ctx, None) & !COOKIE_FILE);
    0
}

#[fexit]
fn leave_fexit(ctx: FExitContext) -> u32 {
    if let Ok(result) = ctx.ret::<u64>() {
        write::leave(cookie_of(&ctx, None), result as i64);
    }
    0
}

#[kprobe]
fn enter_kprobe(ctx: ProbeContext) -> u32 {
    // Volatile: choosing the register to load from would be arithmetic on the context, which the verifier refuses. The
    // instruction pointer stands behind the breakpoint, however the probe is made.
    // SAFETY: the registers of a kprobe are readable.
    let [first, second, third, stack, behind] = unsafe {
        let regs = ctx.regs;
        let registers = [
            &raw const (*regs).rdi,
            &raw const (*regs).rsi,
            &raw const (*regs).rdx,
            &raw const (*regs).rsp,
            &raw const (*regs).rip,
        ];
        registers.map(|register| register.read_volatile())
    };
    let cookie = cookie_of(&ctx, Some(behind - 1));
    let first = first as *const u8;
    let first =
        if cookie & COOKIE_FILE == 0 { cast(first, config!(types.kiocb)) } else { cast(first, config!(types.file)) };
    write::enter::<Cast, _>(&ctx, (first, second, third), stack, cookie);
    0
}

#[kprobe]
fn leave_kprobe(ctx: ProbeContext) -> u32 {
    // SAFETY: the registers of a kprobe are readable.
    let behind = unsafe { (*ctx.regs).rip };
    write::leave(cookie_of(&ctx, Some(behind - 1)), result_of(ctx.regs) as i64);
    0
}

#[kretprobe]
fn leave_kretprobe(ctx: RetProbeContext) -> u32 {
    write::leave(cookie_of(&ctx, None), ctx.ret::<u64>() as i64);
    0
}

#[kprobe]
fn prefault_begin(ctx: ProbeContext) -> u32 {
    let (asked, iter) = arguments_of(&ctx, Pending::Prefault);
    operation::begin(Pending::Prefault, asked, iter);
    0
}

#[kprobe]
fn prefault_end(ctx: ProbeContext) -> u32 {
    operation::end_prefault(result_of(ctx.regs), || asked_behind(&ctx), || is_shared(&ctx));
    0
}

#[kprobe]
fn copy_begin(ctx: ProbeContext) -> u32 {
    let (asked, iter) = arguments_of(&ctx, Pending::Copy);
    operation::begin(Pending::Copy, asked, iter);
    0
}

#[kprobe]
fn copy_end(ctx: ProbeContext) -> u32 {
    operation::end_copy(result_of(ctx.regs), || asked_behind(&ctx), || is_shared(&ctx));
    0
}

#[kprobe]
fn prefault_only(ctx: ProbeContext) -> u32 {
    let (asked, iter) = arguments_behind(&ctx, Pending::Prefault);
    operation::only_prefault(result_of(ctx.regs), asked, iter);
    0
}

#[kprobe]
fn copy_only(ctx: ProbeContext) -> u32 {
    let (asked, iter) = arguments_behind(&ctx, Pending::Copy);
    operation::only_copy(result_of(ctx.regs), asked, iter);
    0
}

#[kprobe]
fn prefault_unattributed(_ctx: ProbeContext) -> u32 {
    operation::unattributed(Loss::PrefaultUnattributed);
    0
}

#[kprobe]
fn copy_unattributed(_ctx: ProbeContext) -> u32 {
    operation::unattributed(Loss::CopyUnattributed);
    0
}

#[kretprobe]
fn prefault_return(ctx: RetProbeContext) -> u32 {
    operation::end_prefault(ctx.ret(), || UNKNOWN, || false);
    0
}

#[kretprobe]
fn copy_return(ctx: RetProbeContext) -> u32 {
    operation::end_copy(ctx.ret(), || UNKNOWN, || false);
    0
}

#[kprobe]
fn floor_begin(_ctx: ProbeContext) -> u32 {
    floor::begin();
    0
}

#[kprobe]
fn floor_end(ctx: ProbeContext) -> u32 {
    floor::end(0, result_of(ctx.regs));
    0
}

#[kprobe]
fn floor_end_of_traps(ctx: ProbeContext) -> u32 {
    floor::end(1, result_of(ctx.regs));
    0
}

/// sched_process_fork(parent, child)
#[raw_tracepoint]
fn follow_fork(ctx: RawTracePointContext) -> i32 {
    filters::follow_fork(ctx.arg(1));
    0
}

/// sched_process_free(task)
#[raw_tracepoint]
fn follow_free(ctx: RawTracePointContext) -> i32 {
    filters::follow_free(ctx.arg(0));
    0
}

/// module_load(module)
#[raw_tracepoint]
fn module_loaded(_ctx: RawTracePointContext) -> i32 {
    // A full ring has woken the reader already.
    let _full = maps::MODULES.output::<u64>(&0, u64::from(BPF_RB_FORCE_WAKEUP));
    0
}

/// Copies `arg(1)` bytes of kernel memory at `arg(0)` into the map TEXT; run by userspace, attached to nothing.
#[raw_tracepoint]
fn read_text(ctx: RawTracePointContext) -> i32 {
    let address: u64 = ctx.arg(0);
    let length: u64 = ctx.arg(1);
    let Some(chunk) = maps::TEXT.get_ptr_mut(0) else { return -1 };
    if length > TEXT_CHUNK_BYTES as u64 {
        return -1;
    }
    // SAFETY: the length was checked against the map value, and the helper checks the address.
    unsafe { bpf_probe_read_kernel(chunk.cast(), length as u32, address as *const _) as i32 }
}

/// The return register, as it stands behind a call and at a return.
#[inline(always)]
fn result_of(regs: *mut pt_regs) -> u64 {
    // SAFETY: the registers of a kprobe are readable.
    unsafe { (*regs).rax }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads it: helpers that read kernel memory are for GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
