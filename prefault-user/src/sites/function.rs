//! Where a write path is entered and where it returns: the instructions that leave it, so that its return can be probed
//! without a kretprobe.
//!
//! A kretprobe has as many instances as the kernel gives it, ten on a small machine, and misses the writers beyond: those
//! that sleep inside the path keep theirs. A kprobe on each returning instruction misses nobody.

use std::{collections::BTreeSet, ops::Range};

use super::{
    Placing,
    arch::Native,
    instructions::{Code, Exit, InstructionSet, ProbePlacement},
};
use crate::kernel::{Kernel, names::Name, symbols::Symbol};

/// A function as it stands in memory, read and decoded once for everything that is asked of it.
pub struct FunctionText<'a> {
    kernel: &'a Kernel,
    name: &'a str,
    range: Range<u64>,
    text: Vec<u8>,
    placing: Placing,
    /// The parts that were split off from it: where each is, and its text.
    parts: Vec<(u64, Vec<u8>)>,
    /// Where jumps in it go, and in those parts.
    jumps: Vec<u64>,
}

impl<'a> FunctionText<'a> {
    /// Reads the function at `address`. `None` if its text cannot be read.
    pub fn read(kernel: &'a Kernel, address: u64, placing: Placing) -> Option<Self> {
        let (function, range) = kernel.symbols.containing(address)?;
        let text = text_of(kernel, address)?;
        let mut jumps = Native::jumps(&text, range.start);
        let parts = related(kernel, function, &jumps).into_iter();
        let parts = parts.map(|part| Some((part, text_of(kernel, part)?))).collect::<Option<Vec<_>>>()?;
        for (part, text) in &parts {
            jumps.extend(Native::jumps(text, *part));
        }
        Some(Self { kernel, name: function.name, range, text, placing, parts, jumps })
    }

    /// Addresses to probe the returns at. `None` if it also leaves in a way that cannot be probed: by a jump to another
    /// function or to its own entry, whose result is not known yet, or from a part that was split off.
    pub fn returns(&self) -> Option<Vec<u64>> {
        if self.is_jumped_to(self.range.start) {
            return None;
        }
        let mut exits = Vec::new();
        for exit in Native::exits(&self.text, self.range.start)? {
            let Some(target) = exit.target else {
                exits.push(exit);
                continue;
            };
            let (other, _) = self.kernel.symbols.containing(target)?;
            if other.name.ends_with("return_thunk") {
                exits.push(exit);
            } else if !(is_part_of(other.name, self.name) && self.stays_inside(other.address)) {
                return None;
            }
        }
        let places = exits.iter().map(|exit| match self.placing {
            Placing::Optimisable => place(exit, self.range.start, &self.jumps),
            Placing::Exact => self.range.start + exit.offset as u64,
        });
        (!exits.is_empty()).then(|| places.collect())
    }

    /// Where the entry is probed: on the instruction behind the ftrace location; `None` if that cannot be told. A probe on
    /// that location would run through ftrace, which costs more than a jump, and whose trampolines crash 6.18 with
    /// `retbleed=stuff`: they are copies of code that counts calls at an address relative to its own
    /// (arch/x86/kernel/ftrace_64.S, ftrace_regs_caller, CALL_DEPTH_ACCOUNT).
    pub fn entry(&self) -> Option<u64> {
        let place = self.range.start + Native::behind_ftrace_location(&self.text)?;
        // Whoever jumps back there does not enter.
        (!self.jumps.contains(&place)).then_some(place)
    }

    /// Where the call at `call` is best probed, and where arguments number `arguments` are there; `None` if at the call.
    pub fn around(&self, call: u64, arguments: [u8; 2]) -> Option<ProbePlacement> {
        if self.placing == Placing::Exact {
            return None;
        }
        let Self { text, parts, jumps, .. } = self;
        Native::around(&Code { text, address: self.range.start, parts, jumps }, call, arguments)
    }

    /// Whether something in it, or in a part of it, jumps to `place`.
    pub fn is_jumped_to(&self, place: u64) -> bool {
        self.jumps.contains(&place)
    }

    /// Whether the part at `part` only ever goes back to this function.
    fn stays_inside(&self, part: u64) -> bool {
        text_of(self.kernel, part).and_then(|text| Native::exits(&text, part)).is_some_and(|exits| {
            exits.iter().all(|exit| exit.target.is_some_and(|target| self.range.contains(&target)))
        })
    }
}

/// Where an exit is probed: as early as the result is there, if the kernel can then replace the breakpoint by a jump, which
/// costs less. Nothing may jump to behind that place, or that return would not be seen.
fn place(exit: &Exit, start: u64, jumps: &[u64]) -> u64 {
    let last = start + exit.offset as u64;
    let places = exit.restoring.iter().map(|&offset| start + offset as u64);
    let is_passed = |place: u64| !jumps.iter().any(|&target| (place + 1..=last).contains(&target));
    places.into_iter().find(|&place| last - place >= Native::OPTIMISED_BYTES && is_passed(place)).unwrap_or(last)
}

fn text_of(kernel: &Kernel, address: u64) -> Option<Vec<u8>> {
    let (_, range) = kernel.symbols.containing(address)?;
    let mut text = vec![0; (range.end - range.start) as usize];
    kernel.text.read_text(range.start, &mut text).ok()?;
    Some(text)
}

/// What jumps into `function` from outside: the parts that were split off from it, to which `jumps` in it lead. A part is
/// entered in many places, by jumps from what it was split off from and from other parts, and need not lead there.
fn related(kernel: &Kernel, function: Symbol<'_>, jumps: &[u64]) -> BTreeSet<u64> {
    let name = Name::of(function.name);
    let is_related = |other: &Symbol<'_>| {
        other.address != function.address && other.module == function.module && Name::of(other.name).plain == name.plain
    };
    if name.is_cold {
        kernel.symbols.iter().filter(is_related).map(|other| other.address).collect()
    } else {
        let targets = jumps.iter().filter_map(|&target| kernel.symbols.containing(target).map(|(other, _)| other));
        targets.filter(|other| is_related(other) && Name::of(other.name).is_cold).map(|part| part.address).collect()
    }
}

fn is_part_of(part: &str, function: &str) -> bool {
    Name::of(part).is_cold && Name::of(part).plain == Name::of(function).plain
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
