//! Where the floor is measured: two places, with next to nothing between them, in the beginning of a system call that does no
//! harm, that hardly anybody makes, and that this process can make.

use super::{
    arch::{IDLE_SYSCALLS, Native},
    instructions::InstructionSet as _,
};
use crate::kernel::Kernel;

/// Two places to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloorPlace {
    /// Number of the system call that meets them.
    pub syscall: libc::c_long,
    /// The first.
    pub begin: u64,
    /// The second.
    pub end: u64,
    /// A third, that keeps the kernel from making a jump of the second.
    pub blocker: Option<u64>,
}

/// The places that measure the floor of points that become jumps, and of points that stay traps; `None` where this kernel has
/// none such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloorPlaces {
    /// Both have room for a jump.
    pub jumps: Option<FloorPlace>,
    /// Neither has.
    pub traps: Option<FloorPlace>,
}

impl FloorPlaces {
    /// Looks for places in `kernel`.
    pub fn find(kernel: &Kernel) -> Self {
        let mut found = Self::default();
        for (name, syscall) in IDLE_SYSCALLS {
            let Some(starts) = starts(kernel, name) else { continue };
            if found.jumps.is_none() {
                found.jumps = jumps(&starts, syscall);
                // A function has room for one pair.
                if found.jumps.is_some() {
                    continue;
                }
            }
            found.traps = found.traps.or_else(|| traps(&starts, syscall));
        }
        found
    }
}

/// Where the instructions at the beginning of a function start that can run elsewhere, and where the last of them ends.
fn starts(kernel: &Kernel, function: &str) -> Option<Vec<u64>> {
    let address = kernel.symbols.in_kernel(function)?.address;
    let (_, range) = kernel.symbols.containing(address)?;
    let mut text = vec![0; (range.end - range.start) as usize];
    kernel.text.read_text(range.start, &mut text).ok()?;
    let entry = Native::behind_ftrace_location(&text)?;
    Some(Native::movable(&text[entry as usize..], range.start + entry))
}

fn jumps(starts: &[u64], syscall: libc::c_long) -> Option<FloorPlace> {
    let (&begin, &limit) = (starts.first()?, starts.last()?);
    let end = starts.iter().copied().find(|&start| start - begin >= Native::OPTIMISED_BYTES)?;
    (limit - end >= Native::OPTIMISED_BYTES).then_some(FloorPlace { syscall, begin, end, blocker: None })
}

fn traps(starts: &[u64], syscall: libc::c_long) -> Option<FloorPlace> {
    let &[begin, end, blocker, ..] = starts else { return None };
    let is_near = |one: u64, other: u64| other - one < Native::OPTIMISED_BYTES;
    let place = FloorPlace { syscall, begin, end, blocker: Some(blocker) };
    // The last is where an instruction ends, and so not one to probe.
    (starts.len() > 3 && is_near(begin, end) && is_near(end, blocker)).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_need_room_and_traps_must_not_have_it() {
        // push %r13; push %r12; push %rbp; push %rbx; sub $0x10,%rsp
        let starts = [0, 2, 4, 5, 6, 10];
        assert_eq!(jumps(&starts, 1), Some(FloorPlace { syscall: 1, begin: 0, end: 5, blocker: None }));
        assert_eq!(traps(&starts, 1), Some(FloorPlace { syscall: 1, begin: 0, end: 2, blocker: Some(4) }));
        assert_eq!(jumps(&[0, 4, 8], 1), None);
        assert_eq!(traps(&[0, 7, 9, 11], 1), None);
        assert_eq!(traps(&[0, 2, 4], 1), None);
    }
}
