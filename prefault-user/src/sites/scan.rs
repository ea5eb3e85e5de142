//! The search through the text of the kernel and all modules.

use std::ops::Range;

use super::{
    arch::Native,
    instructions::{InstructionSet, Landing},
};
use crate::kernel::Kernel;

/// Text read at once.
const PIECE_BYTES: u64 = 1024 * 1024;

/// Text that is taken for one: the kernel's has at most as much address space (arch/x86/include/asm/page_64_types.h,
/// KERNEL_IMAGE_SIZE), and what symbols that make no sense have between them would take years to read.
const MAX_TEXT_BYTES: u64 = 1024 * 1024 * 1024;

/// A direct call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Index of the function called, in the list that was searched for.
    pub target: usize,
    /// Address of the call instruction.
    pub address: u64,
    /// Address of the instruction behind it.
    pub after: u64,
    /// Function that contains it.
    pub caller: String,
    /// Address of that function.
    pub caller_address: u64,
    /// Module of that function, `None` for the kernel.
    pub module: Option<String>,
    /// Whether the caller has an ftrace location, without which the kernel refuses probes in it; `None` if unclear.
    pub traceable: Option<bool>,
    /// The call goes to the padding before the function (call depth tracking).
    pub redirected: bool,
    /// A probe that is not ours sits on the call or behind it.
    pub probed: bool,
}

impl Call {
    /// Bytes from the start of the caller to the call.
    pub fn offset(&self) -> u64 {
        self.address - self.caller_address
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Calls by address.
    pub calls: Vec<Call>,
    /// Text that could not be read: start and bytes.
    pub unread: Vec<(u64, u64)>,
}

/// Finds all direct calls of `targets` in `ranges`.
pub fn scan(kernel: &Kernel, targets: &[u64], ranges: &[Range<u64>]) -> Scanned {
    let mut scanned = Scanned::default();
    let mut buffer = Vec::new();
    for range in ranges {
        let bytes = range.end.saturating_sub(range.start);
        if bytes > MAX_TEXT_BYTES {
            scanned.unread.push((range.start, bytes));
            continue;
        }
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start.saturating_add(PIECE_BYTES));
            // The last bytes of a piece may begin a call that ends in the next.
            let length = end.saturating_add(Native::CALL_BYTES as u64 - 1).min(range.end) - start;
            buffer.resize(length as usize, 0);
            if let Err(unread) = read_as_far_as_possible(kernel, start, &mut buffer) {
                scanned.unread.push(unread);
            }
            for candidate in Native::candidates(&buffer, start, targets) {
                scanned.calls.extend(verify(kernel, start + candidate.offset as u64, &candidate));
            }
            start = end;
        }
    }
    scanned.calls.sort_by_key(|call| call.address);
    scanned.calls.dedup_by_key(|call| call.address);
    scanned
}

/// Reads `buffer`, or page by page what of it can be read; a module's last range is longer than its text.
fn read_as_far_as_possible(kernel: &Kernel, start: u64, buffer: &mut [u8]) -> Result<(), (u64, u64)> {
    const PAGE: usize = 4096;
    if kernel.text.read_text(start, buffer).is_ok() {
        return Ok(());
    }
    for (index, page) in buffer.chunks_mut(PAGE).enumerate() {
        if kernel.text.read_text(start + (index * PAGE) as u64, page).is_err() {
            page.fill(0);
            // The first page of a range holds code for certain; what lies behind may be the end of a module.
            if index == 0 {
                return Err((start, buffer.len() as u64));
            }
        }
    }
    Ok(())
}

/// The call at `address`, if decoding the function it is in from the start meets it.
fn verify(kernel: &Kernel, address: u64, candidate: &super::instructions::Candidate) -> Option<Call> {
    let (caller, range) = kernel.symbols.containing(address)?;
    let mut function = vec![0; (range.end - range.start) as usize];
    if kernel.text.read_text(range.start, &mut function).is_err() {
        // A module's last function may be taken for longer than its text.
        function.truncate((address - range.start) as usize + candidate.length + 1);
        kernel.text.read_text(range.start, &mut function).ok()?;
    }
    let place = (address - range.start) as usize;
    let landing = Native::land(&function, range.start, place);
    if landing == Landing::Missed {
        return None;
    }
    let behind = function.get(place + candidate.length..).unwrap_or_default();
    Some(Call {
        target: candidate.target,
        address,
        after: address.saturating_add(candidate.length as u64),
        caller: caller.name.to_owned(),
        caller_address: range.start,
        module: caller.module.map(str::to_owned),
        traceable: Native::is_traceable(&function),
        redirected: candidate.redirected,
        probed: candidate.breakpoint || Native::is_breakpoint(behind) || landing == Landing::AroundProbe,
    })
}

/// Whether the function at `address` has an ftrace location, `None` if that cannot be told.
pub fn is_traceable(kernel: &Kernel, address: u64) -> Option<bool> {
    let mut entry = [0; 16];
    kernel.text.read_text(address, &mut entry).ok()?;
    Native::is_traceable(&entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        frozen::{KernelFacts, Piece},
        types::SavedTypes,
    };

    fn scanned(symbols: &[&str], text: &[(u64, &str)], target: u64) -> Scanned {
        let piece =
            |(address, bytes): &(u64, &str)| Piece { address: format!("{address:x}"), bytes: (*bytes).to_owned() };
        let frozen = KernelFacts {
            release: String::new(),
            symbols: symbols.iter().map(|line| (*line).to_owned()).collect(),
            text: text.iter().map(piece).collect(),
            types: SavedTypes::default(),
            preemptible: false,
            ftrace_off: false,
        };
        let kernel = frozen.thaw().expect("there are symbols");
        scan(&kernel, &[target], &kernel.symbols.text())
    }

    #[test]
    fn text_of_more_than_a_kernel_has_is_said_to_be_unread() {
        let symbols = ["0000000000001000 T _stext", "ffffffffffffffff T _etext"];
        let scanned = scanned(&symbols, &[(0x1000, "e800000000")], 0x1005);
        assert_eq!(scanned.calls, []);
        assert_eq!(scanned.unread, [(0x1000, u64::MAX - 0x1000)]);
        let turned = ["0000000000002000 T _stext", "0000000000001000 T _etext"];
        assert_eq!(self::scanned(&turned, &[], 0).unread, []);
    }

    #[test]
    fn calls_at_the_highest_addresses_are_found() {
        // call to 0x10, over the top
        let symbols = ["fffffffffffffff0 T _stext", "fffffffffffffff0 T f", "ffffffffffffffff T _etext"];
        let scanned = scanned(&symbols, &[(u64::MAX - 15, "9090909090e81b0000009090909090")], 0x15);
        let calls: Vec<(u64, u64)> = scanned.calls.iter().map(|call| (call.address, call.after)).collect();
        assert_eq!(calls, [(u64::MAX - 10, u64::MAX - 5)]);
    }
}
