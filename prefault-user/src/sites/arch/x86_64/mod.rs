//! x86-64: `e8 rel32` calls, `cc` breakpoints, five-byte ftrace locations.

mod around;
mod held;
mod stack;

use iced_x86::{Code as Opcode, Decoder, DecoderOptions, FlowControl, Register};

use crate::sites::instructions::{Candidate, Code, Exit, InstructionSet, Landing, ProbePlacement};

/// System calls that, called with nothing but zeros, do nothing but fail or answer.
pub const IDLE_SYSCALLS: [(&str, libc::c_long); 3] = [
    ("__x64_sys_sched_getparam", libc::SYS_sched_getparam),
    ("__x64_sys_get_robust_list", libc::SYS_get_robust_list),
    ("__x64_sys_sched_rr_get_interval", libc::SYS_sched_rr_get_interval),
];

/// x86-64.
pub struct X86_64;

const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
const BREAKPOINT: u8 = 0xcc;
/// What may stand before an ftrace location: endbr64, or what the kernel seals it with in functions that are never called
/// indirectly (arch/x86/include/asm/ibt.h, gen_endbr_poison: `osp nop3` in 6.12, `nopl -42(%rax)` in 6.13).
const LANDING_PADS: [[u8; 4]; 3] = [[0xf3, 0x0f, 0x1e, 0xfa], [0x66, 0x0f, 0x1f, 0x00], [0x0f, 0x1f, 0x40, 0xd6]];
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// What an ftrace location holds that nobody uses: until 5.12 the kernel chose the five-byte nop by processor
/// (arch/x86/kernel/alternative.c, ideal_nops: P6, K8 and the generic one).
const IDLE: [[u8; 5]; 3] = [NOP5, [0x66, 0x66, 0x66, 0x66, 0x90], [0x3e, 0x8d, 0x74, 0x26, 0x00]];

/// Padding before a function that a call may be redirected to: with `retbleed=stuff` calls go to an accounting thunk in
/// it (arch/x86/kernel/callthunks.c; CONFIG_FUNCTION_PADDING_BYTES is at most 16 on stock kernels).
const PADDING: u64 = 16;

/// Where in the padding that thunk begins, on Debian's 6.12.
const CALL_DEPTH_THUNK: u64 = 9;

/// Longest instruction of the architecture.
const LONGEST_INSTRUCTION: usize = 15;

impl InstructionSet for X86_64 {
    const CALL_BYTES: usize = 5;
    const OPTIMISED_BYTES: u64 = 5;

    fn candidates(text: &[u8], address: u64, targets: &[u64]) -> Vec<Candidate> {
        let searched = text.len().saturating_sub(Self::CALL_BYTES - 1);
        memchr::memchr2_iter(CALL, BREAKPOINT, &text[..searched])
            .filter_map(|offset| {
                let operand = [text[offset + 1], text[offset + 2], text[offset + 3], text[offset + 4]];
                // Unused text is filled with breakpoints; a probe replaces the first byte only.
                if operand == [BREAKPOINT; 4] {
                    return None;
                }
                let next = address.wrapping_add((offset + Self::CALL_BYTES) as u64);
                let callee = next.wrapping_add_signed(i64::from(i32::from_le_bytes(operand)));
                let breakpoint = text[offset] == BREAKPOINT;
                // Breakpoints are padding too, so that under one only a call as it is really made counts.
                let is_called = |distance: u64| {
                    if breakpoint { [0, CALL_DEPTH_THUNK].contains(&distance) } else { distance <= PADDING }
                };
                let target = targets.iter().position(|&target| is_called(target.wrapping_sub(callee)))?;
                Some(Candidate {
                    offset,
                    length: Self::CALL_BYTES,
                    target,
                    breakpoint,
                    redirected: callee != targets[target],
                })
            })
            .collect()
    }

    fn land(function: &[u8], address: u64, place: usize) -> Landing {
        if lands(function, address, place) {
            Landing::Exact
        } else if may_land(function, address, place) {
            Landing::AroundProbe
        } else {
            Landing::Missed
        }
    }

    fn exits(function: &[u8], address: u64) -> Option<Vec<Exit>> {
        let mut exits = Vec::new();
        let mut restoring = Vec::new();
        let mut reachable = true;
        let mut decoder = Decoder::with_ip(64, function, address, DecoderOptions::NONE);
        while decoder.can_decode() {
            let offset = decoder.position();
            let instruction = decoder.decode();
            match instruction.flow_control() {
                // Behind a return or a jump the compiler puts one against speculation, and the linker pads with them.
                FlowControl::Interrupt if !reachable => continue,
                FlowControl::Interrupt => return None,
                FlowControl::Return => exits.push(Exit { offset, target: None, restoring: restoring.clone() }),
                FlowControl::IndirectBranch => return None,
                // Text that is not understood may hold anything.
                FlowControl::Exception if reachable && instruction.is_invalid() => return None,
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                    let target = instruction.near_branch_target();
                    if !within(function, address, target) {
                        exits.push(Exit { offset, target: Some(target), restoring: restoring.clone() });
                    }
                }
                _ => {}
            }
            if instruction.code() == Opcode::Pop_r64 && instruction.op0_register() != Register::RAX {
                restoring.push(offset);
            } else {
                restoring.clear();
            }
            reachable = !matches!(
                instruction.flow_control(),
                FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::Exception
            );
        }
        Some(exits)
    }

    fn jumps(function: &[u8], address: u64) -> Vec<u64> {
        let instructions = Decoder::with_ip(64, function, address, DecoderOptions::NONE).into_iter();
        instructions.map(|instruction| instruction.near_branch_target()).filter(|&target| target != 0).collect()
    }

    fn around(code: &Code<'_>, call: u64, arguments: [u8; 2]) -> Option<ProbePlacement> {
        around::around(code, call, arguments)
    }

    fn movable(text: &[u8], address: u64) -> Vec<u64> {
        around::movable(text, address)
    }

    fn argument_registers(arguments: [u8; 2]) -> [u8; 2] {
        held::argument_registers(arguments).map(|register| register.number() as u8)
    }

    fn is_breakpoint(text: &[u8]) -> bool {
        text.first() == Some(&BREAKPOINT)
    }

    fn behind_ftrace_location(entry: &[u8]) -> Option<u64> {
        let location = behind_landing_pad(entry);
        // A call is what a tracer makes of it.
        let is_one = IDLE.iter().any(|nop| location.starts_with(nop)) || location.first() == Some(&CALL);
        is_one.then_some((entry.len() - location.len() + NOP5.len()) as u64)
    }

    fn is_traceable(entry: &[u8]) -> Option<bool> {
        let entry = behind_landing_pad(entry);
        match *entry.first()? {
            _ if IDLE.iter().any(|nop| entry.starts_with(nop)) => Some(true),
            // Patched by a tracer, or code that starts like that.
            CALL | JUMP | BREAKPOINT => None,
            _ => Some(false),
        }
    }
}

fn behind_landing_pad(entry: &[u8]) -> &[u8] {
    LANDING_PADS.iter().find_map(|pad| entry.strip_prefix(pad)).unwrap_or(entry)
}

/// Whether decoding from the start meets `place`.
fn lands(function: &[u8], address: u64, place: usize) -> bool {
    let mut decoder = Decoder::with_ip(64, function, address, DecoderOptions::NONE);
    while decoder.position() < place && decoder.can_decode() {
        if decoder.decode().is_invalid() {
            return false;
        }
    }
    decoder.position() == place
}

/// Whether an instruction may start at `place`, given that probes hide how long the instructions are that they replaced. Another
/// instance of this tool has a dozen and more in one function.
fn may_land(function: &[u8], address: u64, place: usize) -> bool {
    let mut may_start = vec![false; place + 1];
    may_start[0] = true;
    for at in 0..place.min(function.len()) {
        if !may_start[at] {
            continue;
        }
        let ip = address.wrapping_add(at as u64);
        let instruction = Decoder::with_ip(64, &function[at..], ip, DecoderOptions::NONE).decode();
        // An optimised probe is a jump over at least its own five bytes to code outside the function.
        let lengths = match instruction.code() {
            Opcode::Int3 => 1..=1 + LONGEST_INSTRUCTION,
            Opcode::Jmp_rel32_64 if !within(function, address, instruction.near_branch_target()) => {
                5..=5 + LONGEST_INSTRUCTION
            }
            _ if instruction.is_invalid() => continue,
            _ => instruction.len()..=instruction.len(),
        };
        for length in lengths {
            if let Some(may_start) = may_start.get_mut(at + length) {
                *may_start = true;
            }
        }
    }
    may_start[place]
}

fn within(function: &[u8], address: u64, target: u64) -> bool {
    target.wrapping_sub(address) < function.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0xffff_ffff_8100_0000;
    /// `push %rbx; mov $0x1000,%esi; call +0x100; test %rax,%rax; ret`
    const FUNCTION: [u8; 15] = [0x53, 0xbe, 0, 0x10, 0, 0, 0xe8, 0, 1, 0, 0, 0x48, 0x85, 0xc0, 0xc3];
    const CALLEE: u64 = AT + 11 + 0x100;

    #[test]
    fn a_call_is_found_at_its_target_and_in_the_padding_before_it() {
        let found = X86_64::candidates(&FUNCTION, AT, &[CALLEE]);
        let call = Candidate { offset: 6, length: 5, target: 0, breakpoint: false, redirected: false };
        assert_eq!(found, [call]);
        let redirected = X86_64::candidates(&FUNCTION, AT, &[1, CALLEE + 9]);
        assert_eq!(redirected, [Candidate { target: 1, redirected: true, ..call }]);
        assert_eq!(X86_64::candidates(&FUNCTION, AT, &[CALLEE - 1]), []);
        assert_eq!(X86_64::candidates(&FUNCTION, AT, &[CALLEE + PADDING + 1]), []);
    }

    #[test]
    fn a_call_under_a_breakpoint_is_found_and_said_to_be_one() {
        let mut probed = FUNCTION;
        probed[6] = BREAKPOINT;
        let found = X86_64::candidates(&probed, AT, &[CALLEE]);
        assert_eq!(found.len(), 1);
        assert!(found[0].breakpoint);
    }

    #[test]
    fn text_too_short_for_a_call_has_none() {
        for length in 0..5 {
            assert_eq!(X86_64::candidates(&[CALL; 4][..length.min(4)], AT, &[CALLEE]), []);
        }
    }

    #[test]
    fn only_starts_of_instructions_are_landed_on() {
        let starts: Vec<_> = (0..14).filter(|&at| X86_64::land(&FUNCTION, AT, at) == Landing::Exact).collect();
        assert_eq!(starts, [0, 1, 6, 11]);
        assert_eq!(X86_64::land(&FUNCTION, AT, 8), Landing::Missed);
    }

    #[test]
    fn exits_are_returns_and_jumps_out_of_the_function() {
        // test %rax,%rax; je +2; jmp +0x1000; ret; int3
        let function = [0x48, 0x85, 0xc0, 0x74, 0x05, 0xe9, 0x00, 0x10, 0x00, 0x00, 0xc3, 0xcc];
        let jump = Exit { offset: 5, target: Some(AT + 10 + 0x1000), restoring: Vec::new() };
        let plain = Exit { offset: 10, target: None, restoring: Vec::new() };
        assert_eq!(X86_64::exits(&function, AT), Some(vec![jump, plain]));
        let mut probed = function;
        probed[3] = BREAKPOINT;
        assert_eq!(X86_64::exits(&probed, AT), None, "what the breakpoint hides may be an exit");
        // jmp *%rax
        assert_eq!(X86_64::exits(&[0xff, 0xe0], AT), None);
    }

    #[test]
    fn registers_restored_before_an_exit_are_told() {
        // pop %rax; pop %rbx; pop %r12; ret
        let function = [0x58, 0x5b, 0x41, 0x5c, 0xc3];
        assert_eq!(X86_64::exits(&function, AT), Some(vec![Exit { offset: 4, target: None, restoring: vec![1, 2] }]));
        assert_eq!(X86_64::jumps(&[0x74, 0x05, 0xc3], AT), [AT + 7]);
    }

    #[test]
    fn a_breakpoint_before_the_place_is_looked_behind() {
        let mut probed = FUNCTION;
        // On `mov $0x1000,%esi`, whose remaining bytes decode as something else.
        probed[1] = BREAKPOINT;
        assert_ne!(X86_64::land(&probed, AT, 6), Landing::Missed);
    }

    #[test]
    fn ftrace_locations_are_told_from_other_entries() {
        let cases: [(&[u8], Option<bool>); 7] = [
            (&NOP5, Some(true)),
            (&[0x66, 0x0f, 0x1f, 0x00, 0x0f, 0x1f, 0x44, 0x00, 0x00], Some(true)),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x1f, 0x44, 0x00, 0x00], Some(true)),
            (&[0xf3, 0x0f, 0x1e, 0xfa, 0x53], Some(false)),
            (&[0x53, 0x48], Some(false)),
            (&[0xe8, 0, 0, 0, 0], None),
            (&[], None),
        ];
        for (entry, expected) in cases {
            assert_eq!(X86_64::is_traceable(entry), expected, "{entry:x?}");
        }
        let lengths = cases.map(|(entry, _)| X86_64::behind_ftrace_location(entry));
        assert_eq!(lengths, [Some(5), Some(9), Some(9), None, None, Some(5), None]);
    }
}
