//! Functions that nobody would write: instructions in any order, jumps to anywhere, and calls of what is measured among them.

use std::{collections::HashMap, ops::Range};

use super::source::Source;
use crate::kernel::{
    Kernel,
    frozen::{KernelFacts, Piece},
    types::{Parameter, SavedTypes},
};

const START: u64 = 0xffff_ffff_8100_0000;
const FUNCTION: u64 = START + 0x10;
const PART: u64 = START + 0x1000;
const OTHER: u64 = PART + 0x400;
const PREFAULT: u64 = OTHER + 0x40;
const COPY: u64 = OTHER + 0x80;
const THUNK: u64 = OTHER + 0xc0;
const END: u64 = OTHER + 0x100;

const MOST_STATEMENTS: usize = 60;
/// Where jumps go in a statement: to its start, and in one that calls to the call and behind it.
const PLACES: usize = 3;
/// The label of a return before which nothing has to be restored.
const EARLY: usize = usize::MAX;
/// Registers that a function has to restore.
const KEPT: [u8; 6] = [3, 5, 12, 13, 14, 15];
const STACK_POINTER: u8 = 4;
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// A kernel with one write path, as `input` decides. `None` if a jump would have been too far.
pub fn kernel(input: &[u8]) -> Option<Kernel> {
    facts(input)?.thaw().ok()
}

/// A kernel with one write path of any bytes, among which are calls of what is measured.
pub fn kernel_of_bytes(input: &[u8]) -> Option<Kernel> {
    let pieces: Vec<&[u8]> = input.chunks(16).chain([&[0xc3][..]]).collect();
    kernel_of_pieces(&pieces)
}

/// A kernel with one write path of these pieces, between which are calls: of the prefault behind a piece whose first byte is even.
pub fn kernel_of_pieces(pieces: &[&[u8]]) -> Option<Kernel> {
    let mut function = Assembler::at(FUNCTION);
    function.write(&NOP5);
    let (last, called) = pieces.split_last()?;
    for piece in called {
        function.write(piece);
        function.to(&[0xe8], if piece.first()? & 1 == 0 { PREFAULT } else { COPY });
    }
    function.write(last);
    frozen(&[(FUNCTION, function.bytes), (PART, vec![0xc3])]).thaw().ok()
}

/// The facts of such a kernel.
pub fn facts(input: &[u8]) -> Option<KernelFacts> {
    let mut source = Source(input);
    let mut function = Assembler::at(FUNCTION);
    let frame = Frame::choose(&mut source);
    function.write(&NOP5);
    if source.below(4) == 0 {
        function.registers(0x85, 7, 7);
        function.jump(&[0x0f, 0x84], EARLY);
    }
    frame.enter(&mut function);
    let (n_own, n_of_part) = (1 + source.below(MOST_STATEMENTS), source.below(12));
    let n_labels = n_own + n_of_part;
    let mut part = Assembler::at(PART);
    for label in 0..n_labels {
        let (here, first) = if label < n_own { (&mut function, 0) } else { (&mut part, n_own) };
        here.label(label);
        let last = if label < n_own { n_own } else { n_labels } - 1;
        let labels = Labels {
            all: n_labels,
            current: label,
            near: label.saturating_sub(3).max(first)..(label + 4).min(last) + 1,
        };
        if label >= n_own && source.below(2) == 0 {
            here.jump(&[0x0f, 0x84], labels.any(&mut source));
        } else {
            statement(&mut source, here, &frame, &labels);
        }
        if label + 1 == n_own || (label >= first && label + 1 == n_labels) {
            here.jump(&[0xe9], source.below(n_own));
        }
    }
    let labels: HashMap<usize, u64> = function.labels.iter().chain(&part.labels).map(|(a, b)| (*a, *b)).collect();
    let place = |label: usize| labels.get(&label).or_else(|| labels.get(&(label % n_labels))).copied();
    let pieces = [(FUNCTION, function.finish(place)?), (PART, part.finish(place)?)];
    assert!(pieces[0].1.len() < 0xf00 && pieces[1].1.len() < 0x300, "there is no room for what was made");
    Some(frozen(&pieces))
}

fn frozen(pieces: &[(u64, Vec<u8>); 2]) -> KernelFacts {
    let [(_, function), _] = pieces;
    let symbols = [
        (START, "_stext"),
        (FUNCTION, "function"),
        (FUNCTION + function.len() as u64, "padding"),
        (PART, "function.cold"),
        (PART + pieces[1].1.len() as u64, "more_padding"),
        (OTHER, "other"),
        (PREFAULT, "fault_in_iov_iter_readable"),
        (COPY, "copy_page_from_iter_atomic"),
        (THUNK, "__x86_return_thunk"),
        (END, "_etext"),
    ];
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let piece = |(address, bytes): &(u64, Vec<u8>)| Piece { address: format!("{address:x}"), bytes: hex(bytes) };
    let parameters = [("function".to_owned(), Parameter::PointerTo("kiocb".to_owned()))].into();
    KernelFacts {
        release: "none".to_owned(),
        symbols: symbols.map(|(address, name)| format!("{address:016x} T {name}")).into(),
        text: pieces.iter().map(piece).collect(),
        types: SavedTypes { parameters, ..SavedTypes::default() },
        preemptible: false,
        ftrace_off: false,
    }
}

/// What a function does with the stack at its entry, and undoes where it returns.
struct Frame {
    saved: usize,
    words: u8,
}

impl Frame {
    fn choose(source: &mut Source<'_>) -> Self {
        Self { saved: source.below(KEPT.len() + 1), words: source.below(6) as u8 }
    }

    fn enter(&self, function: &mut Assembler) {
        KEPT[..self.saved].iter().for_each(|&register| function.push(register));
        if self.words > 0 {
            function.write(&[0x48, 0x83, 0xec, self.words * 8]);
        }
    }

    fn leave(&self, source: &mut Source<'_>, function: &mut Assembler) {
        if self.words > 0 {
            function.write(&[0x48, 0x83, 0xc4, self.words * 8]);
        }
        KEPT[..self.saved].iter().rev().for_each(|&register| function.pop(register));
        match source.below(8) {
            0 => function.to(&[0xe9], OTHER),
            1 | 2 => function.to(&[0xe9], THUNK),
            _ => {
                function.label(EARLY);
                function.write(&[0xc3]);
            }
        }
    }
}

/// Where a statement may jump.
struct Labels {
    all: usize,
    current: usize,
    /// Those that a short jump reaches.
    near: Range<usize>,
}

impl Labels {
    fn any(&self, source: &mut Source<'_>) -> usize {
        source.below(PLACES * self.all)
    }

    fn near(&self, source: &mut Source<'_>) -> usize {
        self.near.start + source.below(self.near.len()) + source.below(PLACES) * self.all
    }

    /// The label of a place in the statement that is being written.
    fn here(&self, place: usize) -> usize {
        self.current + place * self.all
    }
}

/// One or several instructions after which the stack pointer is where it was.
fn statement(source: &mut Source<'_>, code: &mut Assembler, frame: &Frame, labels: &Labels) {
    match source.below(32) {
        0..=4 => operation(source, code, labels),
        5 => frame.leave(source, code),
        6..=9 => {
            let condition = source.below(16) as u8;
            match source.below(3) {
                0 => code.jump(&[0x0f, 0x80 | condition], labels.any(source)),
                _ => code.short_jump(0x70 | condition, labels.near(source)),
            }
        }
        10 => code.jump(&[0xe9], labels.any(source)),
        11 => code.to(&[0xe8], OTHER),
        12 => code.write(&[0x0f, 0x0b]),
        13 => {
            let (register, into) = (any(source), any(source));
            code.push(register);
            simple(source, code);
            code.pop(into);
        }
        14 => {
            code.write(&[0xff, 0x74, 0x24, source.below(8) as u8 * 8]);
            simple(source, code);
            code.write(&[0x48, 0x83, 0xc4, 0x08]);
        }
        _ => simple(source, code),
    }
}

/// A call of what is measured, with what compilers put around one.
fn operation(source: &mut Source<'_>, code: &mut Assembler, labels: &Labels) {
    let (callee, arguments) = if source.below(2) == 0 { (PREFAULT, [6, 7]) } else { (COPY, [2, 1]) };
    let origins = arguments.map(|register| argument(source, code, register));
    for _ in 0..source.below(3) {
        simple(source, code);
    }
    code.label(labels.here(1));
    code.to(&[0xe8], callee);
    code.label(labels.here(2));
    match source.below(4) {
        0 => code.moved(origins[source.below(2)], any(source)),
        1 => simple(source, code),
        _ => {}
    }
    if source.below(2) == 0 {
        simple(source, code);
    }
    match source.below(4) {
        0 => code.short_jump(0x74, labels.near(source)),
        1 => code.jump(&[0x0f, 0x84], labels.any(source)),
        2 => code.registers(0x85, 0, 0),
        // Two calls have something between them.
        _ => code.write(&[0x90]),
    }
}

/// What brings an argument into `register`, and perhaps something that changes where it came from. A register that it may have
/// come from, which is not the stack pointer.
fn argument(source: &mut Source<'_>, code: &mut Assembler, register: u8) -> u8 {
    let from = any_with_stack_pointer(source);
    let mut origin = if from == STACK_POINTER { KEPT[0] } else { from };
    let word = source.below(5) as u8 * 8;
    match source.below(8) {
        0..=2 => code.moved(register, from),
        3..=5 => code.load(register, word),
        6 => {
            let kept = KEPT[source.below(KEPT.len())];
            code.conditional_move(source.below(16) as u8, kept, from);
            code.moved(register, kept);
            origin = kept;
        }
        _ => simple(source, code),
    }
    match source.below(8) {
        0 => code.on_stack(0x48, 0x89, any(source), word),
        1 => code.on_stack(0x40, 0x89, any(source), word + 4),
        2 => code.moved(origin, any(source)),
        3 => simple(source, code),
        _ => {}
    }
    origin
}

/// One instruction that goes on to the next.
fn simple(source: &mut Source<'_>, code: &mut Assembler) {
    let displacement = |source: &mut Source<'_>| source.below(5) as u8 * 8;
    match source.below(16) {
        0..=2 => {
            let from = any_with_stack_pointer(source);
            code.moved(any(source), from);
        }
        3 | 4 => code.load(any(source), displacement(source)),
        5 => code.on_stack(0x48, 0x89, any(source), displacement(source)),
        6 => code.on_stack(0x48, 0x8d, any(source), displacement(source)),
        // Half of a word.
        7 => code.on_stack(0x40, 0x89, any(source), displacement(source) + 4 * source.below(2) as u8),
        8 => code.conditional_move(source.below(16) as u8, any(source), any(source)),
        9 => {
            let operations = [0x39, 0x85, 0x31, 0x01, 0x29];
            code.registers(operations[source.below(operations.len())], any(source), any(source));
        }
        // mov %rax,(%rbx); mov 0x8(%rbx),%rdi; xchg %rbx,%rdi; rep stos; mov %ebx,%esi; mov %ds,%rdi
        10 => code.write(&[0x48, 0x89, 0x03]),
        11 => code.write(&[0x48, 0x8b, 0x7b, 0x08]),
        12 => code.write(&[0x48, 0x87, 0xdf]),
        13 => code.write(&[0xf3, 0x48, 0xab]),
        14 => code.write(&[0x89, 0xde]),
        _ => code.write(&[0x48, 0x8c, 0xdf]),
    }
}

fn any(source: &mut Source<'_>) -> u8 {
    match source.below(16) as u8 {
        STACK_POINTER => 3,
        register => register,
    }
}

fn any_with_stack_pointer(source: &mut Source<'_>) -> u8 {
    source.below(16) as u8
}

/// Writes instructions.
struct Assembler {
    address: u64,
    bytes: Vec<u8>,
    labels: HashMap<usize, u64>,
    /// Where the distance to a label has to be written, and in how many bytes.
    distances: Vec<(usize, usize, usize)>,
}

impl Assembler {
    fn at(address: u64) -> Self {
        Self { address, bytes: Vec::new(), labels: HashMap::new(), distances: Vec::new() }
    }

    fn here(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }

    fn label(&mut self, label: usize) {
        self.labels.insert(label, self.here());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    fn push(&mut self, register: u8) {
        self.write(&[0x40 | register >> 3, 0x50 | (register & 7)]);
    }

    fn pop(&mut self, register: u8) {
        self.write(&[0x40 | register >> 3, 0x58 | (register & 7)]);
    }

    /// An instruction of `register` and the register or memory operand `other`.
    fn registers(&mut self, opcode: u8, register: u8, other: u8) {
        self.write(&[0x48 | (register >> 3) << 2 | other >> 3, opcode, 0xc0 | (register & 7) << 3 | (other & 7)]);
    }

    fn moved(&mut self, to: u8, from: u8) {
        self.registers(0x89, from, to);
    }

    fn conditional_move(&mut self, condition: u8, to: u8, from: u8) {
        let operands = 0xc0 | (to & 7) << 3 | (from & 7);
        self.write(&[0x48 | (to >> 3) << 2 | from >> 3, 0x0f, 0x40 | condition, operands]);
    }

    fn on_stack(&mut self, prefix: u8, opcode: u8, register: u8, displacement: u8) {
        self.write(&[prefix | (register >> 3) << 2, opcode, 0x44 | (register & 7) << 3, 0x24, displacement]);
    }

    fn load(&mut self, to: u8, displacement: u8) {
        self.on_stack(0x48, 0x8b, to, displacement);
    }

    /// A call or a jump to an address.
    fn to(&mut self, opcode: &[u8], target: u64) {
        self.write(opcode);
        let distance = target.wrapping_sub(self.here() + 4) as u32;
        self.write(&distance.to_le_bytes());
    }

    fn jump(&mut self, opcode: &[u8], label: usize) {
        self.write(opcode);
        self.distances.push((self.bytes.len(), 4, label));
        self.write(&[0; 4]);
    }

    fn short_jump(&mut self, opcode: u8, label: usize) {
        self.write(&[opcode]);
        self.distances.push((self.bytes.len(), 1, label));
        self.write(&[0]);
    }

    fn finish(mut self, place: impl Fn(usize) -> Option<u64>) -> Option<Vec<u8>> {
        for (at, size, label) in self.distances {
            let behind = self.address + (at + size) as u64;
            let distance = place(label)?.wrapping_sub(behind) as i64;
            if size == 1 {
                self.bytes[at] = i8::try_from(distance).ok()? as u8;
            } else {
                self.bytes[at..at + 4].copy_from_slice(&i32::try_from(distance).ok()?.to_le_bytes());
            }
        }
        Some(self.bytes)
    }
}
