//! What the scan has to know of an instruction set; one implementation per architecture.

/// A possible call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Bytes from the start of the text that was searched.
    pub offset: usize,
    /// Length of the call instruction.
    pub length: usize,
    /// Index of the function called.
    pub target: usize,
    /// A breakpoint has replaced the first byte: another tool probes the call.
    pub breakpoint: bool,
    /// The call goes to the padding before the function instead of its entry.
    pub redirected: bool,
}

/// How decoding a function from its start met a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// An instruction starts there.
    Exact,
    /// An instruction starts there if a probe before it, which hides an instruction, is taken into account.
    AroundProbe,
    /// No instruction starts there.
    Missed,
}

/// A place where control leaves a function for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Bytes from the start of the function.
    pub offset: usize,
    /// Where it jumps to; `None` for a plain return.
    pub target: Option<u64>,
    /// Offsets of the instructions right before it that only restore registers other than that of the result, the first
    /// one first.
    pub restoring: Vec<usize>,
}

/// Where an argument of a call is found. Registers go by their numbers in the instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgLocation {
    /// In a register, before the call.
    Register(u8),
    /// On the stack, before the call: so many words above the stack pointer.
    StackWord(u8),
    /// In a register, behind the call.
    RegisterBehind(u8),
}

/// Where a call is best probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlacement {
    /// Address of the probe before the call.
    pub begin: u64,
    /// What holds the bytes asked for.
    pub asked: ArgLocation,
    /// What holds the iterator.
    pub iter: ArgLocation,
    /// What still holds the bytes asked for and the iterator at each of `ends`, if something does: [`ArgLocation::Register`] and
    /// [`ArgLocation::StackWord`] are meant there. The call itself need not be probed to know them.
    pub behind: Option<[ArgLocation; 2]>,
    /// The instruction behind the call is jumped to as well: who meets an end need not have called.
    pub shared: bool,
    /// Addresses of the probes behind the call, of which every return meets one: where the code parts right behind it, there
    /// are two.
    pub ends: Vec<u64>,
}

/// A function with what its compiler made of it besides.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Where it is.
    pub address: u64,
    /// Parts that were split off from it: where each is, and its text.
    pub parts: &'a [(u64, Vec<u8>)],
    /// All places in it that it and its parts jump to.
    pub jumps: &'a [u64],
}

/// An instruction set.
pub trait InstructionSet {
    /// Bytes of the longest call: how far searched pieces of text have to overlap.
    const CALL_BYTES: usize;

    /// Bytes that the kernel replaces by a jump when it optimises a probe.
    const OPTIMISED_BYTES: u64;

    /// Places in `text` at `address` that look like direct calls of one of `targets`.
    fn candidates(text: &[u8], address: u64, targets: &[u64]) -> Vec<Candidate>;

    /// Decodes `function`, which is at `address`, from its start and tells how it meets the byte `place`.
    fn land(function: &[u8], address: u64, place: usize) -> Landing;

    /// All places where control leaves `function`, which is at `address`; `None` if a probe hides an instruction, or where
    /// a jump goes is only known at run time.
    fn exits(function: &[u8], address: u64) -> Option<Vec<Exit>>;

    /// Where the jumps in `function`, which is at `address`, go.
    fn jumps(function: &[u8], address: u64) -> Vec<u64>;

    /// The best places to probe the call at `call` in `code`, and where arguments number `arguments` are there. `None` if
    /// decoding from the start does not meet the call.
    fn around(code: &Code<'_>, call: u64, arguments: [u8; 2]) -> Option<ProbePlacement>;

    /// Where the instructions from the beginning of `text`, which is at `address`, start that can run elsewhere, up to the first
    /// that cannot; the last element is where the last of them ends.
    fn movable(text: &[u8], address: u64) -> Vec<u64>;

    /// Numbers of the registers that hold arguments number `arguments` at a call.
    fn argument_registers(arguments: [u8; 2]) -> [u8; 2];

    /// Whether a breakpoint is the first byte of `text`.
    fn is_breakpoint(text: &[u8]) -> bool;

    /// Bytes from `entry`, the start of a function, to the instruction behind its ftrace location; `None` if that cannot be
    /// told.
    fn behind_ftrace_location(entry: &[u8]) -> Option<u64>;

    /// Whether the function that starts with `entry` has an ftrace location; `None` if that cannot be told.
    fn is_traceable(entry: &[u8]) -> Option<bool>;
}
