//! The best places for probes around a call: where the kernel can replace the breakpoint by a jump, which costs less than two
//! thirds of a trap (482 and 298 instructions for an empty program on 6.12).
//!
//! The kernel optimises a probe if the five bytes from it on are instructions that can run elsewhere and that nothing jumps
//! into (arch/x86/kernel/kprobes/opt.c, can_optimize and copy_optimized_instructions); a call is none of them. Before the
//! call there are mostly moves of arguments into their registers: the probe goes before them and takes each argument from
//! where it is moved from; what is only computed there is taken behind the call. Behind it, it goes past what cannot run elsewhere
//! for as long as the result stays in its register; at a branch, both ways are probed.

use iced_x86::{ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, Register};

use super::{
    X86_64,
    held::{KEPT_BY_CALLS, Origin, argument_registers, held_behind, holder, writes},
    stack::Stack,
};
use crate::sites::instructions::{ArgLocation, Code, InstructionSet as _, ProbePlacement};

/// Instructions that the end is moved by at most, so that what is measured stays what it is.
const MOST_PASSED: usize = 4;

/// Places around the call at `call` in `code`, and what holds `arguments` there.
pub fn around(code: &Code<'_>, call: u64, arguments: [u8; 2]) -> Option<ProbePlacement> {
    let decoded = |text, address| Decoder::with_ip(64, text, address, DecoderOptions::NONE).into_iter();
    let jumps = code.jumps;
    let mut instructions: Vec<Instruction> = decoded(code.text, code.address).collect();
    let n_own = instructions.len();
    instructions.extend(code.parts.iter().flat_map(|(address, text)| decoded(text, *address)));
    let stack = Stack::of(&instructions);
    instructions.truncate(n_own);
    let index = instructions.iter().position(|instruction| instruction.ip() == call)?;
    let after = instructions[index].next_ip();
    let plain = (call, argument_registers(arguments).map(holder));
    let (begin, [asked, iter]) = before(&instructions[..index], call, arguments, jumps).unwrap_or(plain);
    let needed = match asked {
        ArgLocation::RegisterBehind(number) => {
            KEPT_BY_CALLS.into_iter().find(|kept| kept.number() == usize::from(number))
        }
        _ => None,
    };
    let ends = behind(&instructions, index + 1, needed, jumps).unwrap_or_else(|| vec![after]);
    let shared = jumps.contains(&after);
    let passed = || instructions[index + 1..].iter().take_while(|instruction| instruction.ip() < ends[0]);
    let held = |argument| held_behind(&instructions[..index], argument, passed(), jumps, stack.as_ref());
    let [asked_behind, iter_behind] = argument_registers(arguments).map(held);
    let behind = asked_behind.zip(iter_behind).map(<[ArgLocation; 2]>::from).filter(|_| !shared);
    Some(ProbePlacement { begin, asked, iter, behind, shared, ends })
}

/// Where instructions start that can run elsewhere, as [`crate::sites::instructions::InstructionSet::movable`] says.
pub fn movable(text: &[u8], address: u64) -> Vec<u64> {
    let mut starts = vec![address];
    let saves = |instruction: &Instruction| matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Sub);
    let instructions = Decoder::with_ip(64, text, address, DecoderOptions::NONE).into_iter();
    let movable = instructions.take_while(|instruction| can_run_elsewhere(instruction) || saves(instruction));
    starts.extend(movable.map(|instruction| instruction.next_ip()));
    starts
}

/// The nearest place before the call where a probe can be optimised, and what holds the bytes asked for and the iterator.
fn before(before: &[Instruction], call: u64, arguments: [u8; 2], jumps: &[u64]) -> Option<(u64, [ArgLocation; 2])> {
    let mut origins = argument_registers(arguments).map(Origin::Register);
    let mut next = call;
    for (index, instruction) in before.iter().enumerate().rev() {
        if jumps.contains(&next) || !can_run_elsewhere(instruction) {
            return None;
        }
        let [asked, iter] = origins;
        origins = [asked.before(instruction)?, iter.before(instruction)?];
        match origins {
            // The iterator is needed before the call.
            [_, Origin::Behind(_)] => return None,
            [Origin::Behind(register), _] if before[index + 1..].iter().any(|later| writes(later, register)) => {
                return None;
            }
            _ => {}
        }
        next = instruction.ip();
        if call - next >= X86_64::OPTIMISED_BYTES {
            return Some((next, origins.map(Origin::holder)));
        }
    }
    None
}

/// The nearest places behind the call where a probe can be optimised, and the result and the register that is `needed` are
/// still there: one, or the two ways that a branch right behind the call goes.
fn behind(all: &[Instruction], first: usize, needed: Option<Register>, jumps: &[u64]) -> Option<Vec<u64>> {
    let behind = &all[first..];
    for (passed, instruction) in behind.iter().enumerate().take(MOST_PASSED + 1) {
        let place = instruction.ip();
        // Whoever jumps there has not called.
        if passed > 0 && jumps.contains(&place) {
            return None;
        }
        if has_room(&behind[passed..], place, jumps) {
            return Some(vec![place]);
        }
        if instruction.flow_control() == FlowControl::ConditionalBranch {
            let (through, away) = (instruction.next_ip(), instruction.near_branch_target());
            let parts = !jumps.contains(&through)
                && has_room(&behind[passed + 1..], through, jumps)
                && is_only_reached_by_one_jump(all, away, jumps);
            return parts.then(|| vec![through, away]);
        }
        let keeps = |register| !writes(instruction, register);
        if instruction.flow_control() != FlowControl::Next || !keeps(Register::RAX) || !needed.is_none_or(keeps) {
            return None;
        }
    }
    None
}

/// Whether nothing but one jump leads to the instruction at `place`: what stands before it does not go on to it.
fn is_only_reached_by_one_jump(all: &[Instruction], place: u64, jumps: &[u64]) -> bool {
    let before = all.iter().take_while(|instruction| instruction.ip() < place).last();
    let goes_on = before.is_none_or(|instruction| {
        instruction.next_ip() != place
            || !matches!(
                instruction.flow_control(),
                // Breakpoints are padding.
                FlowControl::UnconditionalBranch | FlowControl::Return | FlowControl::Interrupt
            )
    });
    !goes_on && jumps.iter().filter(|&&target| target == place).count() == 1
}

fn has_room(instructions: &[Instruction], place: u64, jumps: &[u64]) -> bool {
    for instruction in instructions {
        if !can_run_elsewhere(instruction) || (instruction.ip() != place && jumps.contains(&instruction.ip())) {
            return false;
        }
        if instruction.next_ip() - place >= X86_64::OPTIMISED_BYTES {
            return true;
        }
    }
    false
}

/// Instructions of which it is certain that the kernel lets them run elsewhere: fewer than it does. It mends operands that are
/// relative to the instruction (arch/x86/kernel/kprobes/core.c, __copy_instruction).
fn can_run_elsewhere(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Cmp | Mnemonic::Xor)
        || is_conditional_move(instruction)
}

fn is_conditional_move(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::Next
        && instruction.condition_code() != ConditionCode::None
        && instruction.op_count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0xffff_ffff_8100_0000;
    /// mov %r15,%rdi; mov %rbx,%rsi; call; push 0x30(%rsp); mov %r12d,%ecx; mov %rax,%rbx; ret
    const FUNCTION: [u8; 22] = [
        0x4c, 0x89, 0xff, 0x48, 0x89, 0xde, 0xe8, 0x6e, 0x51, 0x37, 0x00, 0xff, 0x74, 0x24, 0x30, 0x44, 0x89, 0xe1,
        0x48, 0x89, 0xc3, 0xc3,
    ];
    const CALL: u64 = AT + 6;
    const RSI: ArgLocation = ArgLocation::Register(6);
    const RDI: ArgLocation = ArgLocation::Register(7);

    fn found(function: &[u8], call: u64, jumps: &[u64]) -> Option<ProbePlacement> {
        // What holds arguments behind a call has tests of its own.
        at(function, call, jumps).map(|around| ProbePlacement { behind: None, ..around })
    }

    fn at(text: &[u8], call: u64, jumps: &[u64]) -> Option<ProbePlacement> {
        around(&Code { text, address: AT, parts: &[], jumps }, call, [1, 0])
    }

    fn places(begin: u64, asked: ArgLocation, iter: ArgLocation, end: u64) -> Option<ProbePlacement> {
        Some(ProbePlacement { begin, asked, iter, behind: None, shared: false, ends: vec![end] })
    }

    #[test]
    fn call_is_probed_before_its_arguments_are_moved_and_behind_what_cannot_run_elsewhere() {
        // rbx is number 3.
        let expected = places(AT, ArgLocation::Register(3), ArgLocation::Register(15), AT + 15);
        assert_eq!(found(&FUNCTION, CALL, &[]), expected);
    }

    #[test]
    fn arguments_that_are_still_there_at_the_end_are_named() {
        let held = |function: &[u8], call| at(function, call, &[]).and_then(|around| around.behind);
        assert_eq!(held(&FUNCTION, CALL), Some([ArgLocation::Register(3), ArgLocation::Register(15)]));
        assert_eq!(held(&BRANCH, AT + 7), None, "nobody says where the iterator comes from");
    }

    #[test]
    fn the_stack_pointer_and_what_is_no_general_register_are_no_holders() {
        // mov %rsp,%rdi; mov %rbx,%rsi; call; mov %rbx,%rdx; mov %rbx,%rdi; ret. Number 4 says that nothing is known.
        let mut function = [
            0x48, 0x89, 0xe7, 0x48, 0x89, 0xde, 0xe8, 0x6e, 0x51, 0x37, 0x00, 0x48, 0x89, 0xda, 0x48, 0x89, 0xdf, 0xc3,
        ];
        assert_eq!(at(&function, AT + 6, &[]), places(AT + 6, RSI, RDI, AT + 11));
        // mov %ds,%rdi, whose number is that of %rbx.
        function[..3].copy_from_slice(&[0x48, 0x8c, 0xdf]);
        assert_eq!(at(&function, AT + 6, &[]), places(AT + 6, RSI, RDI, AT + 11));
    }

    #[test]
    fn an_end_that_others_jump_to_is_not_the_only_point() {
        let jumped_to = at(&FUNCTION, CALL, &[AT + 11]).expect("found");
        assert!(jumped_to.shared && jumped_to.behind.is_none(), "{jumped_to:?}");
    }

    #[test]
    fn nothing_is_moved_past_what_is_jumped_to() {
        assert_eq!(found(&FUNCTION, CALL, &[AT + 3, AT + 15]), places(CALL, RSI, RDI, AT + 11));
        let whole = found(&FUNCTION, CALL, &[AT, AT + 11]).map(|around| ProbePlacement { shared: false, ..around });
        assert_eq!(whole, found(&FUNCTION, CALL, &[]), "these are reached by all");
    }

    #[test]
    fn arguments_that_are_overwritten_and_results_that_are_keep_the_probes_at_the_call() {
        // mov 0x8(%rbx),%rdi; mov %rbx,%rsi; call; xor %eax,%eax; ret
        let function = [0x48, 0x8b, 0x7b, 0x08, 0x48, 0x89, 0xde, 0xe8, 0x6e, 0x51, 0x37, 0x00, 0x31, 0xc0, 0xc3];
        assert_eq!(found(&function, AT + 7, &[]), places(AT + 7, RSI, RDI, AT + 12));
    }

    #[test]
    fn an_argument_may_come_from_the_stack() {
        // mov 0x8(%rsp),%rdi; mov %rbx,%rsi; call; mov %rbx,%rdx; mov %rbx,%rdi; ret
        let function = [
            0x48, 0x8b, 0x7c, 0x24, 0x08, 0x48, 0x89, 0xde, 0xe8, 0x6e, 0x51, 0x37, 0x00, 0x48, 0x89, 0xda, 0x48, 0x89,
            0xdf, 0xc3,
        ];
        assert_eq!(
            found(&function, AT + 8, &[]),
            places(AT, ArgLocation::Register(3), ArgLocation::StackWord(1), AT + 13)
        );
    }

    /// cmova %r15,%r12; mov %r12,%rsi; call; cmp %rax,%r12; je to the end; lea 0x48(%rsp),%rcx; ret; xor %eax,%eax; ret
    const BRANCH: [u8; 27] = [
        0x4d, 0x0f, 0x47, 0xe7, 0x4c, 0x89, 0xe6, 0xe8, 0x6e, 0x51, 0x37, 0x00, 0x49, 0x39, 0xc4, 0x74, 0x06, 0x48,
        0x8d, 0x4c, 0x24, 0x48, 0xc3, 0x31, 0xc0, 0xc3, 0x90,
    ];

    #[test]
    fn what_is_computed_before_the_call_is_taken_behind_it_and_both_ways_of_a_branch_are_probed() {
        let (asked, ends) = (ArgLocation::RegisterBehind(12), vec![AT + 17, AT + 23]);
        let expected = ProbePlacement { begin: AT, asked, iter: RDI, behind: None, shared: false, ends };
        assert_eq!(found(&BRANCH, AT + 7, &[AT + 23]), Some(expected));
    }

    #[test]
    fn a_branch_to_where_others_go_too_is_not_followed() {
        for jumps in [vec![AT + 23, AT + 23], vec![AT + 17, AT + 23]] {
            assert_eq!(found(&BRANCH, AT + 7, &jumps).map(|around| around.ends), Some(vec![AT + 12]));
        }
        // A nop in place of the return before it.
        let mut falls_through = BRANCH;
        falls_through[22] = 0x90;
        assert_eq!(found(&falls_through, AT + 7, &[AT + 23]).map(|around| around.ends), Some(vec![AT + 12]));
    }

    #[test]
    fn a_register_that_is_written_again_is_not_looked_at_behind_the_call() {
        // cmova %r15,%r12; mov %r12,%rsi; mov %rbx,%r12; call; ret
        let function = [0x4d, 0x0f, 0x47, 0xe7, 0x4c, 0x89, 0xe6, 0x49, 0x89, 0xdc, 0xe8, 0x6e, 0x51, 0x37, 0x00, 0xc3];
        // Six bytes of moves are enough before the conditional one is met.
        assert_eq!(found(&function, AT + 10, &[]), places(AT + 4, ArgLocation::Register(12), RDI, AT + 15));
        assert_eq!(found(&function, AT + 10, &[AT + 7]), places(AT + 10, RSI, RDI, AT + 15));
    }
}
