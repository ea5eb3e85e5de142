//! Where a write path is entered and where it returns: the instructions that leave it, so that its return can be probed
//! without a kretprobe.
//!
//! A kretprobe has as many instances as the kernel gives it, ten on a small machine, and misses the writers beyond: those
//! that sleep inside the path keep theirs. A kprobe on each returning instruction misses nobody.

use std::collections::BTreeSet;

use super::{
    instructions::{Exit, InstructionSet},
    x86_64::X86_64,
};
use crate::kernel::Kernel;

/// Addresses to probe the returns of the function at `address` at. `None` if it also leaves in a way that cannot be
/// probed: by a jump to another function, whose result is not known yet, or from a part that was split off.
pub fn returns_of(kernel: &Kernel, address: u64) -> Option<Vec<u64>> {
    let (function, range) = kernel.symbols.containing(address)?;
    let text = text_of(kernel, address)?;
    let mut exits = Vec::new();
    for exit in X86_64::exits(&text, range.start)? {
        let Some(target) = exit.target else {
            exits.push(exit);
            continue;
        };
        let (other, _) = kernel.symbols.containing(target)?;
        if other.name.ends_with("return_thunk") {
            exits.push(exit);
        } else if !(is_part_of(other.name, function.name) && stays_inside(kernel, other.address, address)) {
            return None;
        }
    }
    let jumps = jumps_into(kernel, address)?;
    (!exits.is_empty()).then(|| exits.iter().map(|exit| place(exit, range.start, &jumps)).collect())
}

/// Where the entry of the function at `address` is probed: on the instruction behind its ftrace location. A probe on that
/// location would run through ftrace, which costs more than a jump, and whose trampolines crash 6.18 with `retbleed=stuff`:
/// they are copies of code that counts calls at an address relative to its own (arch/x86/kernel/ftrace_64.S,
/// ftrace_regs_caller, CALL_DEPTH_ACCOUNT).
pub fn entry_of(kernel: &Kernel, address: u64) -> u64 {
    let behind = || {
        let place = address + X86_64::behind_ftrace_location(&text_of(kernel, address)?)?;
        // Whoever jumps back there does not enter.
        (!jumps_into(kernel, address)?.contains(&place)).then_some(place)
    };
    behind().unwrap_or(address)
}

/// Where jumps in the function at `address` go, and in the part that was split off from it.
pub fn jumps_into(kernel: &Kernel, address: u64) -> Option<Vec<u64>> {
    let (function, range) = kernel.symbols.containing(address)?;
    let mut jumps = X86_64::jumps(&text_of(kernel, address)?, range.start);
    let parts = jumps.iter().filter(|target| !range.contains(target)).filter_map(|&target| {
        kernel.symbols.containing(target).filter(|(part, _)| is_part_of(part.name, function.name))
    });
    let parts: BTreeSet<u64> = parts.map(|(part, _)| part.address).collect();
    for part in parts {
        jumps.extend(X86_64::jumps(&text_of(kernel, part)?, part));
    }
    Some(jumps)
}

/// Where an exit is probed: as early as the result is there, if the kernel can then replace the breakpoint by a jump, which
/// costs less. Nothing may jump to behind that place, or that return would not be seen.
fn place(exit: &Exit, start: u64, jumps: &[u64]) -> u64 {
    let last = start + exit.offset as u64;
    let places = exit.restoring.iter().map(|&offset| start + offset as u64);
    let is_passed = |place: u64| !jumps.iter().any(|&target| (place + 1..=last).contains(&target));
    places.into_iter().find(|&place| last - place >= X86_64::OPTIMISED_BYTES && is_passed(place)).unwrap_or(last)
}

/// The text of the function at `address`.
pub fn text_of(kernel: &Kernel, address: u64) -> Option<Vec<u8>> {
    let (_, range) = kernel.symbols.containing(address)?;
    let mut text = vec![0; (range.end - range.start) as usize];
    kernel.text.read_text(range.start, &mut text).ok()?;
    Some(text)
}

fn is_part_of(part: &str, function: &str) -> bool {
    part.strip_prefix(function) == Some(".cold")
}

/// Whether the part at `part` only ever goes back to the function at `function`.
fn stays_inside(kernel: &Kernel, part: u64, function: u64) -> bool {
    let Some((_, range)) = kernel.symbols.containing(function) else { return false };
    text_of(kernel, part)
        .and_then(|text| X86_64::exits(&text, part))
        .is_some_and(|exits| exits.iter().all(|exit| exit.target.is_some_and(|target| range.contains(&target))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0xffff_ffff_8100_0000;

    fn probed(jumps: &[u64]) -> u64 {
        // Five pops of one and two bytes each, and a return.
        let exit = Exit { offset: 108, target: None, restoring: vec![100, 101, 102, 104, 106] };
        place(&exit, START, &jumps.iter().map(|jump| START + jump).collect::<Vec<_>>()) - START
    }

    #[test]
    fn return_is_probed_where_the_registers_are_restored() {
        assert_eq!(probed(&[]), 100);
        assert_eq!(probed(&[100, 109]), 100);
    }

    #[test]
    fn return_is_probed_behind_everything_that_is_jumped_to() {
        assert_eq!(probed(&[101]), 101);
        // What is left is too short to make a difference.
        assert_eq!(probed(&[104]), 108);
        assert_eq!(probed(&[108]), 108);
    }
}
