//! Where a write path returns: the instructions that leave it, so that its return can be probed without a kretprobe.
//!
//! A kretprobe has as many instances as the kernel gives it, ten on a small machine, and misses the writers beyond: those
//! that sleep inside the path keep theirs. A kprobe on each returning instruction misses nobody.

use super::{instructions::InstructionSet, x86_64::X86_64};
use crate::kernel::Kernel;

/// Addresses of the instructions that return from the function at `address`. `None` if it also leaves in a way that
/// cannot be probed: by a jump to another function, whose result is not known yet, or from a part that was split off.
pub fn returns_of(kernel: &Kernel, address: u64) -> Option<Vec<u64>> {
    let (function, range) = kernel.symbols.containing(address)?;
    let mut text = vec![0; (range.end - range.start) as usize];
    kernel.text.read_text(range.start, &mut text).ok()?;
    let mut returns = Vec::new();
    for exit in X86_64::exits(&text, range.start)? {
        let place = range.start + exit.offset as u64;
        let Some(target) = exit.target else {
            returns.push(place);
            continue;
        };
        let (other, _) = kernel.symbols.containing(target)?;
        if other.name.ends_with("return_thunk") {
            returns.push(place);
        } else if !(is_part_of(other.name, function.name) && stays_inside(kernel, other.address, address)) {
            return None;
        }
    }
    (!returns.is_empty()).then_some(returns)
}

fn is_part_of(part: &str, function: &str) -> bool {
    part.strip_prefix(function) == Some(".cold")
}

/// Whether the part at `part` only ever goes back to the function at `function`.
fn stays_inside(kernel: &Kernel, part: u64, function: u64) -> bool {
    let (Some((_, part)), Some((_, function))) = (kernel.symbols.containing(part), kernel.symbols.containing(function))
    else {
        return false;
    };
    let mut text = vec![0; (part.end - part.start) as usize];
    kernel.text.read_text(part.start, &mut text).is_ok()
        && X86_64::exits(&text, part.start)
            .is_some_and(|exits| exits.iter().all(|exit| exit.target.is_some_and(|target| function.contains(&target))))
}
