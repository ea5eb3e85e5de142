//! The best places for probes around a call: where the kernel can replace the breakpoint by a jump, which costs less than two
//! thirds of a trap (482 and 298 instructions for an empty program on 6.12).
//!
//! The kernel optimises a probe if the five bytes from it on are instructions that can run elsewhere and that nothing jumps
//! into (arch/x86/kernel/kprobes/opt.c, can_optimize and copy_optimized_instructions); a call is none of them. Before the
//! call there are mostly moves of arguments into their registers: the probe goes before them and takes each argument from
//! where it is moved from. Behind it, it goes past what cannot run elsewhere for as long as the result stays in its register.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::X86_64;
use crate::sites::instructions::{Around, InstructionSet as _};

/// Instructions that the end is moved by at most, so that what is measured stays what it is.
const MOST_PASSED: usize = 4;

/// The registers of the first six arguments.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Places around the call at `call` in `function`, which is at `address`, and the registers that hold `arguments` there.
/// `jumps` are all places that are jumped to.
pub fn around(function: &[u8], address: u64, call: u64, arguments: [u8; 2], jumps: &[u64]) -> Option<Around> {
    let instructions: Vec<Instruction> =
        Decoder::with_ip(64, function, address, DecoderOptions::NONE).into_iter().collect();
    let index = instructions.iter().position(|instruction| instruction.ip() == call)?;
    let after = instructions[index].next_ip();
    let registers = argument_registers(arguments);
    let plain = (call, registers);
    let (begin, registers) = before(&instructions[..index], call, registers, jumps).unwrap_or(plain);
    let end = behind(&instructions[index + 1..], jumps).unwrap_or(after);
    Some(Around { begin, registers: registers.map(|register| register.number() as u8), end })
}

/// The registers of arguments number `arguments` at a call.
pub fn argument_registers(arguments: [u8; 2]) -> [Register; 2] {
    arguments.map(|argument| ARGUMENTS[usize::from(argument)])
}

/// The nearest place before the call where a probe can be optimised.
fn before(
    before: &[Instruction],
    call: u64,
    mut registers: [Register; 2],
    jumps: &[u64],
) -> Option<(u64, [Register; 2])> {
    let mut next = call;
    for instruction in before.iter().rev() {
        if jumps.contains(&next) || !can_run_elsewhere(instruction) {
            return None;
        }
        for register in &mut registers {
            if is_move(instruction) && instruction.op0_register() == *register {
                *register = instruction.op1_register();
            } else if writes(instruction, *register) {
                return None;
            }
        }
        next = instruction.ip();
        if call - next >= X86_64::OPTIMISED_BYTES {
            return Some((next, registers));
        }
    }
    None
}

/// The nearest place behind the call where a probe can be optimised and the result is in its register.
fn behind(behind: &[Instruction], jumps: &[u64]) -> Option<u64> {
    for (passed, instruction) in behind.iter().enumerate().take(MOST_PASSED + 1) {
        let place = instruction.ip();
        // Whoever jumps there has not called.
        if passed > 0 && jumps.contains(&place) {
            return None;
        }
        if has_room(&behind[passed..], place, jumps) {
            return Some(place);
        }
        if instruction.flow_control() != FlowControl::Next || writes(instruction, Register::RAX) {
            return None;
        }
    }
    None
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

/// Instructions of which it is certain that the kernel lets them run elsewhere: fewer than it does.
fn can_run_elsewhere(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Cmp | Mnemonic::Xor)
        && instruction.segment_prefix() == Register::None
        && !instruction.is_ip_rel_memory_operand()
}

fn is_move(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && [instruction.op0_kind(), instruction.op1_kind()] == [OpKind::Register; 2]
        && instruction.op0_register().is_gpr64()
}

fn writes(instruction: &Instruction, register: Register) -> bool {
    InstructionInfoFactory::new().info(instruction).used_registers().iter().any(|used| {
        used.register().full_register() == register && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
    })
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

    #[test]
    fn call_is_probed_before_its_arguments_are_moved_and_behind_what_cannot_run_elsewhere() {
        let found = around(&FUNCTION, AT, CALL, [1, 0], &[]);
        // rbx is number 3.
        assert_eq!(found, Some(Around { begin: AT, registers: [3, 15], end: AT + 15 }));
    }

    #[test]
    fn nothing_is_moved_past_what_is_jumped_to() {
        let found = around(&FUNCTION, AT, CALL, [1, 0], &[AT + 3, AT + 15]);
        assert_eq!(found, Some(Around { begin: CALL, registers: [6, 7], end: AT + 11 }));
        let whole = around(&FUNCTION, AT, CALL, [1, 0], &[AT, AT + 11]);
        assert_eq!(whole, Some(Around { begin: AT, registers: [3, 15], end: AT + 15 }), "these are reached by all");
    }

    #[test]
    fn arguments_that_are_computed_and_results_that_are_overwritten_keep_the_probes_at_the_call() {
        // mov 0x8(%rsp),%rdi; mov %rbx,%rsi; call; xor %eax,%eax; ret
        let function = [0x48, 0x8b, 0x7c, 0x24, 0x08, 0x48, 0x89, 0xde, 0xe8, 0x6e, 0x51, 0x37, 0x00, 0x31, 0xc0, 0xc3];
        let found = around(&function, AT, AT + 8, [1, 0], &[]);
        assert_eq!(found, Some(Around { begin: AT + 8, registers: [6, 7], end: AT + 13 }));
    }
}
