//! A machine that runs functions of x86-64 on values of which only is known which of them are the same.
//!
//! Every value is unique unless an instruction copies it. What an instruction computes, and what a function that is called leaves
//! in the registers it may change, is a new value. Which way a branch goes is a matter of chance.

use std::collections::BTreeMap;

use iced_x86::{ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

const WORD_BYTES: i64 = 8;
const STACK_POINTER: usize = 4;
/// Registers that a function may change, by number (System V ABI).
const CHANGED_BY_CALLS: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];

/// What a register or a word of the stack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// An address: so many bytes above where the stack pointer was at the entry.
    Stack(i64),
    /// Something else, which has this number.
    Other(u64),
}

/// Where an instruction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the instruction at this address.
    To(u64),
    /// Back to whoever called.
    Return,
    /// Nowhere that can be followed.
    Stuck,
}

/// A machine that runs a function.
pub struct Machine {
    registers: [Value; 16],
    /// Words of the stack by their height.
    words: BTreeMap<i64, Value>,
    /// The lowest address on the stack that anything but the stack pointer has had: others may write from there on.
    known: i64,
    n_values: u64,
    factory: InstructionInfoFactory,
}

impl Machine {
    /// A machine at the entry of a function.
    pub fn new() -> Self {
        let mut machine = Self {
            registers: [Value::Stack(0); 16],
            words: BTreeMap::new(),
            known: i64::MAX,
            n_values: 0,
            factory: InstructionInfoFactory::new(),
        };
        for number in (0..16).filter(|&number| number != STACK_POINTER) {
            machine.registers[number] = machine.fresh();
        }
        machine
    }

    /// What register `number` holds.
    pub fn register(&self, number: u8) -> Value {
        self.registers[usize::from(number)]
    }

    /// What the word of the stack holds that is so many words above the stack pointer.
    pub fn stack_word(&mut self, word: u8) -> Value {
        match self.registers[STACK_POINTER] {
            Value::Stack(height) => self.load(height + i64::from(word) * WORD_BYTES),
            Value::Other(_) => self.fresh(),
        }
    }

    /// Runs `instruction`; `chance` decides what the instruction leaves open.
    pub fn run(&mut self, instruction: &Instruction, chance: &mut dyn FnMut() -> bool) -> Flow {
        let next = instruction.next_ip();
        match instruction.flow_control() {
            FlowControl::Next => match self.compute(instruction, chance) {
                Some(()) => Flow::To(next),
                None => Flow::Stuck,
            },
            FlowControl::Call | FlowControl::IndirectCall => {
                self.call();
                Flow::To(next)
            }
            FlowControl::UnconditionalBranch => Flow::To(instruction.near_branch_target()),
            FlowControl::ConditionalBranch if chance() => Flow::To(instruction.near_branch_target()),
            FlowControl::ConditionalBranch => Flow::To(next),
            FlowControl::Return => Flow::Return,
            // A warning goes on, a bug does not.
            FlowControl::Exception if !instruction.is_invalid() && chance() => Flow::To(next),
            _ => Flow::Stuck,
        }
    }

    fn fresh(&mut self) -> Value {
        self.n_values += 1;
        Value::Other(self.n_values)
    }

    fn load(&mut self, height: i64) -> Value {
        if let Some(&value) = self.words.get(&height) {
            return value;
        }
        let value = self.fresh();
        self.store(height, WORD_BYTES, Some(value));
        value
    }

    fn store(&mut self, height: i64, bytes: i64, value: Option<Value>) {
        self.words.retain(|&word, _| word + WORD_BYTES <= height || height + bytes <= word);
        if let (WORD_BYTES, Some(value)) = (bytes, value) {
            self.words.insert(height, value);
        }
    }

    /// Everything on the stack may have changed that begins at `height` or above.
    fn forget_from(&mut self, height: i64) {
        self.words.retain(|&word, _| word.saturating_add(WORD_BYTES) <= height);
    }

    fn call(&mut self) {
        self.forget_from(self.known);
        for number in CHANGED_BY_CALLS {
            self.registers[number] = self.fresh();
        }
    }

    fn set(&mut self, register: Register, value: Value) -> Option<()> {
        if !register.is_gpr64() {
            return None;
        }
        let is_stack_pointer = register == Register::RSP;
        match value {
            Value::Stack(height) if !is_stack_pointer => self.known = self.known.min(height),
            Value::Other(_) if is_stack_pointer => return None,
            _ => {}
        }
        self.registers[register.number()] = value;
        Some(())
    }

    /// Where the memory operand of `instruction` is on the stack, and whether exactly there; else it may be anywhere that is
    /// known.
    fn operand(&self, instruction: &Instruction) -> Option<(i64, bool)> {
        let base = instruction.memory_base();
        if !base.is_gpr64() || matches!(instruction.segment_prefix(), Register::FS | Register::GS) {
            return None;
        }
        match self.registers[base.number()] {
            Value::Stack(height) => {
                let height = height.checked_add(instruction.memory_displacement64() as i64)?;
                Some((height, instruction.memory_index() == Register::None))
            }
            Value::Other(_) => None,
        }
    }

    /// What operand `number` holds, if it is a whole register or word of the stack.
    fn source(&mut self, instruction: &Instruction, number: u32) -> Value {
        match instruction.op_kind(number) {
            OpKind::Register if instruction.op_register(number).is_gpr64() => {
                self.registers[instruction.op_register(number).number()]
            }
            OpKind::Memory if instruction.memory_size().size() as i64 == WORD_BYTES => {
                match self.operand(instruction) {
                    Some((height, true)) => self.load(height),
                    _ => self.fresh(),
                }
            }
            _ => self.fresh(),
        }
    }

    /// What an instruction does that goes on to the next one. `None` if the stack pointer is lost.
    fn compute(&mut self, instruction: &Instruction, chance: &mut dyn FnMut() -> bool) -> Option<()> {
        let to_register = instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().is_gpr64();
        let to = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Mov if to_register => {
                let value = self.source(instruction, 1);
                self.set(to, value)
            }
            Mnemonic::Mov if instruction.op0_kind() == OpKind::Memory => {
                let value = self.source(instruction, 1);
                self.write_memory(instruction, Some(value));
                Some(())
            }
            Mnemonic::Lea if to_register => {
                let value = match self.operand(instruction) {
                    Some((height, true)) => Value::Stack(height),
                    Some((height, false)) => {
                        self.known = self.known.min(height);
                        self.fresh()
                    }
                    None => self.fresh(),
                };
                self.set(to, value)
            }
            Mnemonic::Push => self.push(instruction),
            Mnemonic::Pop if to_register => {
                let value = self.stack_word(0);
                self.move_stack_pointer(instruction.stack_pointer_increment().into())?;
                self.set(to, value)
            }
            Mnemonic::Add | Mnemonic::Sub if to_register && instruction.op1_kind() != OpKind::Register => {
                let value = self.sum(instruction)?;
                self.set(to, value)
            }
            Mnemonic::Xchg if to_register && instruction.op1_register().is_gpr64() => {
                let [one, other] = [self.source(instruction, 0), self.source(instruction, 1)];
                self.set(to, other)?;
                self.set(instruction.op1_register(), one)
            }
            _ if is_conditional_move(instruction) && to_register => match chance() {
                true => {
                    let value = self.source(instruction, 1);
                    self.set(to, value)
                }
                false => Some(()),
            },
            _ => self.compute_anything(instruction),
        }
    }

    fn push(&mut self, instruction: &Instruction) -> Option<()> {
        let value = self.source(instruction, 0);
        let moved = i64::from(instruction.stack_pointer_increment());
        self.move_stack_pointer(moved)?;
        let Value::Stack(height) = self.registers[STACK_POINTER] else { return None };
        if let Value::Stack(address) = value {
            self.known = self.known.min(address);
        }
        self.store(height, -moved, Some(value));
        Some(())
    }

    /// What a register holds to which a constant is added, or from which one is taken. `None` if that is no address.
    fn sum(&mut self, instruction: &Instruction) -> Option<Value> {
        let by = (instruction.op1_kind() != OpKind::Memory).then(|| instruction.immediate(1) as i64);
        match (self.registers[instruction.op0_register().number()], by) {
            (Value::Stack(height), Some(by)) if instruction.mnemonic() == Mnemonic::Add => {
                height.checked_add(by).map(Value::Stack)
            }
            (Value::Stack(height), Some(by)) => height.checked_sub(by).map(Value::Stack),
            _ => Some(self.fresh()),
        }
    }

    /// An instruction of which only is known what it writes.
    fn compute_anything(&mut self, instruction: &Instruction) -> Option<()> {
        let info = self.factory.info(instruction);
        let is_read = |access| matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        let written: Vec<Register> = info
            .used_registers()
            .iter()
            .filter(|used| !is_read(used.access()))
            .map(|used| used.register().full_register())
            .filter(|register| register.is_gpr64())
            .collect();
        let writes_memory = info.used_memory().iter().any(|used| !is_read(used.access()));
        if matches!(instruction.mnemonic(), Mnemonic::Leave | Mnemonic::Enter) {
            return None;
        }
        if instruction.is_stack_instruction() {
            self.move_stack_pointer(instruction.stack_pointer_increment().into())?;
        } else if written.contains(&Register::RSP) {
            return None;
        }
        if writes_memory {
            self.write_memory(instruction, None);
        }
        for register in written.into_iter().filter(|register| *register != Register::RSP) {
            let value = self.fresh();
            self.set(register, value)?;
        }
        Some(())
    }

    fn write_memory(&mut self, instruction: &Instruction, value: Option<Value>) {
        if let Some(Value::Stack(address)) = value {
            self.known = self.known.min(address);
        }
        let bytes = instruction.memory_size().size() as i64;
        match self.operand(instruction) {
            Some((height, true)) if bytes > 0 => self.store(height, bytes, value),
            Some((height, _)) => self.forget_from(height.min(self.known)),
            None => self.forget_from(self.known),
        }
    }

    fn move_stack_pointer(&mut self, bytes: i64) -> Option<()> {
        let Value::Stack(height) = self.registers[STACK_POINTER] else { return None };
        self.registers[STACK_POINTER] = Value::Stack(height.checked_add(bytes)?);
        Some(())
    }
}

fn is_conditional_move(instruction: &Instruction) -> bool {
    instruction.condition_code() != ConditionCode::None && instruction.op_count() == 2
}
