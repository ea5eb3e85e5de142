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

    /// Whether a breakpoint is the first byte of `text`.
    fn is_breakpoint(text: &[u8]) -> bool;

    /// Whether the function that starts with `entry` has an ftrace location; `None` if that cannot be told.
    fn is_traceable(entry: &[u8]) -> Option<bool>;
}
