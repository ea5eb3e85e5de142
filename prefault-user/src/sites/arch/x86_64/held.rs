//! What holds the arguments of a call before it and behind it.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::stack::Stack;
use crate::sites::instructions::ArgLocation;

/// The registers of the first six arguments.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Registers that a function leaves as they were (System V ABI).
pub(super) const KEPT_BY_CALLS: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// Words of the stack that an argument is looked for in.
const STACK_WORDS: u64 = 16;
const WORD_BYTES: u64 = 8;

/// The registers of arguments number `arguments` at a call.
pub(super) fn argument_registers(arguments: [u8; 2]) -> [Register; 2] {
    arguments.map(|argument| ARGUMENTS[usize::from(argument)])
}

pub(super) fn holder(register: Register) -> ArgLocation {
    ArgLocation::Register(register.number() as u8)
}

/// Where an argument comes from, while the instructions before a call are gone through backwards.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// It is in this register from here to the call.
    Register(Register),
    /// It is in this word of the stack from here to the call.
    StackWord(u8),
    /// It is only known behind the call, in this register.
    Behind(Register),
}

impl Origin {
    /// Where it is before `instruction`, if it can be said. What is computed right before the call is still there behind it in
    /// a register that calls leave alone.
    pub(super) fn before(self, instruction: &Instruction) -> Option<Self> {
        match self {
            Self::Register(register) if is_move(instruction) && instruction.op0_register() == register => {
                // An address on the stack is in no register before, but the stack pointer, which is no holder: its number means
                // that nothing is known.
                Some(instruction.op1_register()).filter(|&source| source != Register::RSP).map(Self::Register)
            }
            Self::Register(register)
                if instruction.op0_kind() == OpKind::Register && instruction.op0_register() == register =>
            {
                match stack_word(instruction) {
                    Some(word) => Some(Self::StackWord(word)),
                    None => KEPT_BY_CALLS.contains(&register).then_some(Self::Behind(register)),
                }
            }
            Self::Register(register) => (!writes(instruction, register)).then_some(self),
            Self::StackWord(word) => {
                (!touches_word(instruction, word) && !writes(instruction, Register::RSP)).then_some(self)
            }
            Self::Behind(_) => Some(self),
        }
    }

    /// Where it still is after `instruction`, if it is.
    fn after(self, instruction: &Instruction) -> Option<Self> {
        match self {
            Self::Register(register) => (!writes(instruction, register)).then_some(self),
            Self::StackWord(word)
                if instruction.mnemonic() == Mnemonic::Push
                    && instruction.stack_pointer_increment() == -(WORD_BYTES as i32) =>
            {
                let word = word + 1;
                (u64::from(word) < STACK_WORDS).then_some(Self::StackWord(word))
            }
            Self::StackWord(_) => self.before(instruction),
            Self::Behind(_) => None,
        }
    }

    pub(super) fn holder(self) -> ArgLocation {
        match self {
            Self::Register(register) => holder(register),
            Self::StackWord(word) => ArgLocation::StackWord(word),
            Self::Behind(register) => ArgLocation::RegisterBehind(register.number() as u8),
        }
    }
}

/// What still holds behind the call what was passed in `argument`: it came from a register that calls leave alone, or from a
/// word of the stack, which neither the instructions of `before` from there to the call nor those that are `passed` behind it
/// write. Words of the `stack` that others may know of are not trusted: the function that is called may write them.
pub(super) fn held_behind<'a>(
    before: &'a [Instruction],
    argument: Register,
    passed: impl Iterator<Item = &'a Instruction>,
    jumps: &[u64],
    stack: Option<&Stack>,
) -> Option<ArgLocation> {
    let (mut origin, mut from) = (Origin::Register(argument), before.len());
    while !is_kept(origin) {
        from = from.checked_sub(1)?;
        let instruction = &before[from];
        if jumps.contains(&instruction.next_ip()) || instruction.flow_control() != FlowControl::Next {
            return None;
        }
        origin = origin.before(instruction)?;
    }
    if let Origin::StackWord(word) = origin
        && (u64::from(word) + 1) * WORD_BYTES > stack?.private_bytes(from)
    {
        return None;
    }
    before[from..].iter().chain(passed).try_fold(origin, Origin::after).map(Origin::holder)
}

/// Whether `instruction` may write this word of the stack. Of other memory nothing is known.
fn touches_word(instruction: &Instruction, word: u8) -> bool {
    let word = i128::from(word) * i128::from(WORD_BYTES);
    let mut factory = InstructionInfoFactory::new();
    factory.info(instruction).used_memory().iter().any(|used| {
        if matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess) {
            return false;
        }
        let on_stack = (used.base(), used.index()) == (Register::RSP, Register::None)
            && !matches!(used.segment(), Register::FS | Register::GS);
        let (begin, size) = (i128::from(used.displacement() as i64), used.memory_size().size() as i128);
        !on_stack || size == 0 || (begin < word + i128::from(WORD_BYTES) && word < begin + size)
    })
}

fn is_kept(origin: Origin) -> bool {
    match origin {
        Origin::Register(register) => KEPT_BY_CALLS.contains(&register),
        Origin::StackWord(_) | Origin::Behind(_) => true,
    }
}

/// The word of the stack that an instruction only loads a register from.
fn stack_word(instruction: &Instruction) -> Option<u8> {
    let is_load = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op1_kind() == OpKind::Memory
        && instruction.op0_register().is_gpr64()
        && instruction.segment_prefix() == Register::None
        && (instruction.memory_base(), instruction.memory_index()) == (Register::RSP, Register::None);
    let offset = instruction.memory_displacement64();
    (is_load && offset.is_multiple_of(WORD_BYTES) && offset / WORD_BYTES < STACK_WORDS)
        .then_some((offset / WORD_BYTES) as u8)
}

fn is_move(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && [instruction.op0_kind(), instruction.op1_kind()] == [OpKind::Register; 2]
        && instruction.op0_register().is_gpr64()
        && instruction.op1_register().is_gpr64()
}

pub(super) fn writes(instruction: &Instruction, register: Register) -> bool {
    InstructionInfoFactory::new().info(instruction).used_registers().iter().any(|used| {
        used.register().full_register() == register && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
    })
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    const AT: u64 = 0x1000;

    fn decoded(bytes: &[u8]) -> Vec<Instruction> {
        Decoder::with_ip(64, bytes, AT, DecoderOptions::NONE).into_iter().collect()
    }

    fn found(before: &[u8], argument: Register, passed: &[u8], jumps: &[u64]) -> Option<ArgLocation> {
        let before = decoded(before);
        held_behind(&before, argument, decoded(passed).iter(), jumps, Stack::of(&before).as_ref())
    }

    /// mov %rbx,%rsi; mov 0x8(%rsp),%rdi
    const MOVES: [u8; 8] = [0x48, 0x89, 0xde, 0x48, 0x8b, 0x7c, 0x24, 0x08];
    /// mov %rax,%rbx
    const WRITES_RBX: [u8; 3] = [0x48, 0x89, 0xc3];
    /// mov %rax,0x8(%rsp)
    const WRITES_STACK: [u8; 5] = [0x48, 0x89, 0x44, 0x24, 0x08];

    #[test]
    fn what_was_moved_from_a_kept_register_is_there_behind_the_call_until_that_is_written() {
        assert_eq!(found(&MOVES, Register::RSI, &WRITES_STACK, &[]), Some(ArgLocation::Register(3)));
        assert_eq!(found(&MOVES, Register::RSI, &WRITES_RBX, &[]), None);
        let overwritten = [&MOVES[..], &WRITES_RBX].concat();
        assert_eq!(found(&overwritten, Register::RSI, &[], &[]), None);
    }

    #[test]
    fn what_was_loaded_from_the_stack_is_there_until_that_word_or_unknown_memory_is_written() {
        assert_eq!(found(&MOVES, Register::RDI, &WRITES_RBX, &[]), Some(ArgLocation::StackWord(1)));
        assert_eq!(found(&MOVES, Register::RDI, &WRITES_STACK, &[]), None);
        // mov %eax,0xc(%rsp), half of the word
        assert_eq!(found(&MOVES, Register::RDI, &[0x89, 0x44, 0x24, 0x0c], &[]), None);
        // mov %rax,0x10(%rsp)
        let neighbour = [0x48, 0x89, 0x44, 0x24, 0x10];
        assert_eq!(found(&MOVES, Register::RDI, &neighbour, &[]), Some(ArgLocation::StackWord(1)));
        // mov %rax,(%rbx); sub $0x8,%rsp
        for passed in [&[0x48, 0x89, 0x03][..], &[0x48, 0x83, 0xec, 0x08]] {
            assert_eq!(found(&MOVES, Register::RDI, passed, &[]), None, "{passed:x?}");
        }
    }

    #[test]
    fn words_that_others_may_know_are_not_trusted() {
        // lea 0x8(%rsp),%r9 and lea 0x10(%rsp),%r9
        let [of_it, of_next] = [0x08, 0x10].map(|offset| [&[0x4c, 0x8d, 0x4c, 0x24, offset][..], &MOVES].concat());
        assert_eq!(found(&of_it, Register::RDI, &[], &[]), None);
        assert_eq!(found(&of_next, Register::RDI, &[], &[]), Some(ArgLocation::StackWord(1)));
    }

    #[test]
    fn words_are_compared_where_the_stack_pointer_is() {
        // push %rax; lea 0x10(%rsp),%r9, which is 0x8(%rsp) again behind the pop; pop %rax
        let behind_a_push = [&[0x50, 0x4c, 0x8d, 0x4c, 0x24, 0x10, 0x58][..], &MOVES].concat();
        assert_eq!(found(&behind_a_push, Register::RDI, &[], &[]), None);
        // The same with 0x18, which is the word above it.
        let of_next = [&[0x50, 0x4c, 0x8d, 0x4c, 0x24, 0x18, 0x58][..], &MOVES].concat();
        assert_eq!(found(&of_next, Register::RDI, &[], &[]), Some(ArgLocation::StackWord(1)));
        // lea 0x8(%rsp),%r9; push %rax: the word that MOVES load from was 0x0(%rsp) for the lea.
        let pushed = [&[0x4c, 0x8d, 0x4c, 0x24, 0x08, 0x50][..], &MOVES].concat();
        assert_eq!(found(&pushed, Register::RDI, &[], &[]), Some(ArgLocation::StackWord(1)));
    }

    #[test]
    fn no_word_is_trusted_where_addresses_cannot_be_followed() {
        // mov %rsp,%r9; mov %rsp,%rbp; and $-16,%rsp; push %rsp; pop %rax; add %rsp,%r9
        let ways: [&[u8]; 5] =
            [&[0x49, 0x89, 0xe1], &[0x48, 0x89, 0xe5], &[0x48, 0x83, 0xe4, 0xf0], &[0x54, 0x58], &[0x49, 0x01, 0xe1]];
        for way in ways {
            assert_eq!(found(&[way, &MOVES].concat(), Register::RDI, &[], &[]), None, "{way:x?}");
        }
    }

    #[test]
    fn stores_that_name_no_operand_are_stores() {
        // rep stos %rax,%es:(%rdi); cmp %rax,0x8(%rsp) only reads.
        assert_eq!(found(&MOVES, Register::RDI, &[0xf3, 0x48, 0xab], &[]), None);
        let compared = [0x48, 0x39, 0x44, 0x24, 0x08];
        assert_eq!(found(&MOVES, Register::RDI, &compared, &[]), Some(ArgLocation::StackWord(1)));
        // mov %rax,-0x8(%rsp), below everything
        let below = [0x48, 0x89, 0x44, 0x24, 0xf8];
        assert_eq!(found(&MOVES, Register::RDI, &below, &[]), Some(ArgLocation::StackWord(1)));
    }

    #[test]
    fn words_of_the_stack_are_further_up_behind_a_push() {
        // push 0x38(%rsp)
        let push = [0xff, 0x74, 0x24, 0x38];
        assert_eq!(found(&MOVES, Register::RDI, &push, &[]), Some(ArgLocation::StackWord(2)));
    }

    #[test]
    fn what_comes_from_elsewhere_or_by_two_ways_is_not_looked_for() {
        // mov %rcx,%rsi, from a register that calls may change, and nothing before it.
        assert_eq!(found(&[0x48, 0x89, 0xce], Register::RSI, &[], &[]), None);
        assert_eq!(found(&MOVES, Register::RSI, &[], &[AT + 3]), None);
        assert_eq!(found(&MOVES, Register::RSI, &[], &[AT]), Some(ArgLocation::Register(3)));
    }

    #[test]
    fn what_is_computed_in_a_kept_register_is_looked_for_there() {
        // cmova %r15,%r12; mov %r12,%rsi
        assert_eq!(
            found(&[0x4d, 0x0f, 0x47, 0xe7, 0x4c, 0x89, 0xe6], Register::RSI, &[], &[]),
            Some(ArgLocation::Register(12))
        );
    }
}
