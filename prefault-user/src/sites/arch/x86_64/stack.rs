//! Where the stack pointer is at each instruction of a function, and which words of the stack others may know of.
//!
//! The stack pointer moves: the same displacement means another word behind a push. So words are compared by how far they are
//! from where the stack pointer was at the entry of the function.

use std::collections::HashMap;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::held::writes;

/// The stack of a function.
pub(super) struct Stack {
    /// How many bytes the stack pointer is above its value at the entry, before each instruction: mostly a negative number. `None`
    /// where nothing is known to lead to.
    heights: Vec<Option<i64>>,
    /// The lowest address that is taken of something on the stack, as a height; everything above it may be known to others.
    taken: Option<i64>,
}

impl Stack {
    /// The stack of the function that `instructions` are of, with the parts that were split off from it behind it. `None` if
    /// the stack pointer cannot be followed, or an address is taken in a way that does not say of what.
    pub(super) fn of(instructions: &[Instruction]) -> Option<Self> {
        let heights = Walk::over(instructions)?;
        let mut taken: Option<i64> = None;
        for (instruction, height) in instructions.iter().zip(&heights) {
            if let Some(displacement) = address_taken(instruction)? {
                let address = (*height)?.checked_add(displacement)?;
                taken = Some(taken.map_or(address, |lowest| lowest.min(address)));
            }
        }
        Some(Self { heights, taken })
    }

    /// How many bytes above the stack pointer, as it is before instruction number `index`, nobody else knows of.
    pub(super) fn private_bytes(&self, index: usize) -> u64 {
        let Some(Some(height)) = self.heights.get(index) else { return 0 };
        self.taken.map_or(u64::MAX, |taken| taken.saturating_sub(*height).try_into().unwrap_or(0))
    }
}

/// A walk along all ways through a function.
struct Walk<'a> {
    instructions: &'a [Instruction],
    by_address: HashMap<u64, usize>,
    heights: Vec<Option<i64>>,
    /// Instructions that were reached and not yet gone on from.
    next: Vec<usize>,
}

impl<'a> Walk<'a> {
    fn over(instructions: &'a [Instruction]) -> Option<Vec<Option<i64>>> {
        let by_address =
            instructions.iter().enumerate().map(|(index, instruction)| (instruction.ip(), index)).collect();
        let mut walk = Self { instructions, by_address, heights: vec![None; instructions.len()], next: Vec::new() };
        walk.reach(0, 0)?;
        walk.go()?;
        // A warning's ud2 goes on to the next instruction, a bug's does not: only where nothing else says it, it is taken to.
        for (index, instruction) in instructions.iter().enumerate() {
            let goes_on = instruction.flow_control() == FlowControl::Exception && !instruction.is_invalid();
            if let (true, Some(height), Some(None)) = (goes_on, walk.heights[index], walk.heights.get(index + 1)) {
                walk.reach(index + 1, height)?;
                walk.go()?;
            }
        }
        Some(walk.heights)
    }

    /// Follows everything that was reached. `None` where two ways lead to one place with stacks of different heights.
    fn go(&mut self) -> Option<()> {
        while let Some(index) = self.next.pop() {
            let instruction = &self.instructions[index];
            let height = self.heights[index]?.checked_add(moved_by(instruction)?)?;
            let (falls_through, jumps) = match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => (true, false),
                FlowControl::ConditionalBranch => (true, true),
                FlowControl::UnconditionalBranch => (false, true),
                _ => (false, false),
            };
            if falls_through && index + 1 < self.instructions.len() {
                self.reach(index + 1, height)?;
            }
            // Others' code is none of ours.
            if let (true, Some(&target)) = (jumps, self.by_address.get(&instruction.near_branch_target())) {
                self.reach(target, height)?;
            }
        }
        Some(())
    }

    fn reach(&mut self, index: usize, height: i64) -> Option<()> {
        match self.heights.get_mut(index)? {
            Some(known) => (*known == height).then_some(()),
            unknown => {
                *unknown = Some(height);
                self.next.push(index);
                Some(())
            }
        }
    }
}

/// How many bytes the stack pointer goes up. A call comes back with the stack as it was. `None` if that cannot be told.
fn moved_by(instruction: &Instruction) -> Option<i64> {
    let moves_it = instruction.op_count() > 0 && instruction.op0_register() == Register::RSP;
    let constant = || match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1) as i64),
        _ => None,
    };
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pushfq | Mnemonic::Popfq => Some(instruction.stack_pointer_increment().into()),
        Mnemonic::Pop if !moves_it => Some(instruction.stack_pointer_increment().into()),
        Mnemonic::Add if moves_it => constant(),
        Mnemonic::Sub if moves_it => constant()?.checked_neg(),
        Mnemonic::Lea if moves_it && is_on_stack(instruction) && instruction.memory_index() == Register::None => {
            Some(instruction.memory_displacement64() as i64)
        }
        _ => match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return => Some(0),
            _ => (!writes(instruction, Register::RSP)).then_some(0),
        },
    }
}

/// Where above the stack pointer the variable lies whose address `instruction` takes, if it does: what it becomes part of is
/// taken to be that variable and those above it. `None` if that may be anything.
fn address_taken(instruction: &Instruction) -> Option<Option<i64>> {
    let is_sp = |register: Register| register.full_register() == Register::RSP;
    let moves_it = instruction.op_count() > 0 && is_sp(instruction.op0_register());
    match instruction.mnemonic() {
        Mnemonic::Lea if is_on_stack(instruction) && !moves_it => {
            Some(Some(instruction.memory_displacement64() as i64))
        }
        // A frame pointer has the whole frame below it.
        Mnemonic::Mov if instruction.op1_register() == Register::RSP && instruction.op0_register() != Register::RBP => {
            Some(Some(0))
        }
        Mnemonic::Add | Mnemonic::Sub | Mnemonic::Lea if moves_it && !is_sp(instruction.op1_register()) => Some(None),
        _ => {
            let is_operand = (0..instruction.op_count()).any(|number| is_sp(instruction.op_register(number)));
            (!is_operand).then_some(None)
        }
    }
}

fn is_on_stack(instruction: &Instruction) -> bool {
    instruction.memory_base() == Register::RSP
}
