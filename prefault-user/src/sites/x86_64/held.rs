//! What holds the arguments of a call before it and behind it.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use crate::sites::instructions::Holder;

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

pub(super) fn holder(register: Register) -> Holder {
    Holder::Register(register.number() as u8)
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
                Some(Self::Register(instruction.op1_register()))
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
            Self::StackWord(word) if instruction.mnemonic() == Mnemonic::Push => {
                let word = word + 1;
                (u64::from(word) < STACK_WORDS).then_some(Self::StackWord(word))
            }
            Self::StackWord(_) => self.before(instruction),
            Self::Behind(_) => None,
        }
    }

    pub(super) fn holder(self) -> Holder {
        match self {
            Self::Register(register) => holder(register),
            Self::StackWord(word) => Holder::StackWord(word),
            Self::Behind(register) => Holder::RegisterBehind(register.number() as u8),
        }
    }
}

/// What still holds behind the call what was passed in `argument`: it came from a register that calls leave alone, or from a
/// word of the stack, which neither the instructions of `before` from there to the call nor those that are `passed` behind it
/// write. Words from `locals` on, whose addresses are taken, are not trusted: whoever is called may write them.
pub(super) fn held_behind<'a>(
    before: &'a [Instruction],
    argument: Register,
    passed: impl Iterator<Item = &'a Instruction>,
    jumps: &[u64],
    locals: u64,
) -> Option<Holder> {
    let (mut origin, mut from) = (Origin::Register(argument), before.len());
    while !is_kept(origin) {
        from = from.checked_sub(1)?;
        let instruction = &before[from];
        if jumps.contains(&instruction.next_ip()) || instruction.flow_control() != FlowControl::Next {
            return None;
        }
        origin = origin.before(instruction)?;
    }
    if matches!(origin, Origin::StackWord(word) if (u64::from(word) + 1) * WORD_BYTES > locals) {
        return None;
    }
    before[from..].iter().chain(passed).try_fold(origin, Origin::after).map(Origin::holder)
}

/// Whether `instruction` may write this word of the stack. Of other memory nothing is known.
fn touches_word(instruction: &Instruction, word: u8) -> bool {
    if instruction.op0_kind() != OpKind::Memory {
        return false;
    }
    let on_stack = (instruction.memory_base(), instruction.memory_index()) == (Register::RSP, Register::None);
    let (begin, size) = (instruction.memory_displacement64(), instruction.memory_size().size() as u64);
    let word = u64::from(word) * WORD_BYTES;
    !on_stack || (begin < word + WORD_BYTES && word < begin + size)
}

/// How far above the stack pointer the lowest variable lies whose address is taken.
pub(super) fn locals(function: &[Instruction]) -> u64 {
    let taken = |instruction: &&Instruction| {
        instruction.mnemonic() == Mnemonic::Lea && instruction.memory_base() == Register::RSP
    };
    function.iter().filter(taken).map(Instruction::memory_displacement64).min().unwrap_or(u64::MAX)
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
        && (instruction.memory_base(), instruction.memory_index()) == (Register::RSP, Register::None);
    let offset = instruction.memory_displacement64();
    (is_load && offset.is_multiple_of(WORD_BYTES) && offset / WORD_BYTES < STACK_WORDS)
        .then_some((offset / WORD_BYTES) as u8)
}

fn is_move(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && [instruction.op0_kind(), instruction.op1_kind()] == [OpKind::Register; 2]
        && instruction.op0_register().is_gpr64()
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

    fn found(before: &[u8], argument: Register, passed: &[u8], jumps: &[u64]) -> Option<Holder> {
        let before = decoded(before);
        held_behind(&before, argument, decoded(passed).iter(), jumps, locals(&before))
    }

    /// mov %rbx,%rsi; mov 0x8(%rsp),%rdi
    const MOVES: [u8; 8] = [0x48, 0x89, 0xde, 0x48, 0x8b, 0x7c, 0x24, 0x08];
    /// mov %rax,%rbx
    const WRITES_RBX: [u8; 3] = [0x48, 0x89, 0xc3];
    /// mov %rax,0x8(%rsp)
    const WRITES_STACK: [u8; 5] = [0x48, 0x89, 0x44, 0x24, 0x08];

    #[test]
    fn what_was_moved_from_a_kept_register_is_there_behind_the_call_until_that_is_written() {
        assert_eq!(found(&MOVES, Register::RSI, &WRITES_STACK, &[]), Some(Holder::Register(3)));
        assert_eq!(found(&MOVES, Register::RSI, &WRITES_RBX, &[]), None);
        let overwritten = [&MOVES[..], &WRITES_RBX].concat();
        assert_eq!(found(&overwritten, Register::RSI, &[], &[]), None);
    }

    #[test]
    fn what_was_loaded_from_the_stack_is_there_until_that_word_or_unknown_memory_is_written() {
        assert_eq!(found(&MOVES, Register::RDI, &WRITES_RBX, &[]), Some(Holder::StackWord(1)));
        assert_eq!(found(&MOVES, Register::RDI, &WRITES_STACK, &[]), None);
        // mov %eax,0xc(%rsp), half of the word
        assert_eq!(found(&MOVES, Register::RDI, &[0x89, 0x44, 0x24, 0x0c], &[]), None);
        // mov %rax,0x10(%rsp)
        let neighbour = [0x48, 0x89, 0x44, 0x24, 0x10];
        assert_eq!(found(&MOVES, Register::RDI, &neighbour, &[]), Some(Holder::StackWord(1)));
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
        assert_eq!(found(&of_next, Register::RDI, &[], &[]), Some(Holder::StackWord(1)));
    }

    #[test]
    fn words_of_the_stack_are_further_up_behind_a_push() {
        // push 0x38(%rsp)
        let push = [0xff, 0x74, 0x24, 0x38];
        assert_eq!(found(&MOVES, Register::RDI, &push, &[]), Some(Holder::StackWord(2)));
    }

    #[test]
    fn what_comes_from_elsewhere_or_by_two_ways_is_not_looked_for() {
        // mov %rcx,%rsi, from a register that calls may change, and nothing before it.
        assert_eq!(found(&[0x48, 0x89, 0xce], Register::RSI, &[], &[]), None);
        assert_eq!(found(&MOVES, Register::RSI, &[], &[AT + 3]), None);
        assert_eq!(found(&MOVES, Register::RSI, &[], &[AT]), Some(Holder::Register(3)));
    }

    #[test]
    fn what_is_computed_in_a_kept_register_is_looked_for_there() {
        // cmova %r15,%r12; mov %r12,%rsi
        assert_eq!(
            found(&[0x4d, 0x0f, 0x47, 0xe7, 0x4c, 0x89, 0xe6], Register::RSI, &[], &[]),
            Some(Holder::Register(12))
        );
    }
}
