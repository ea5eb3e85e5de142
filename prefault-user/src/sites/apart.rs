//! Points that must not be at one address.
//!
//! The kernel runs the probes of one address in the order in which they were made, the last one first (kernel/kprobes.c,
//! add_new_kprobe), and they are made on several threads at once: what is counted would depend on it. Where points meet, each goes
//! back to the very instruction it stands for.

use std::collections::BTreeSet;

use super::{ArgLocation, Path, Site};

/// Moves points of `sites` and `paths` that are at one address.
pub fn keep_apart(sites: &mut [Site], paths: &mut [Path]) {
    let returns: BTreeSet<u64> = paths.iter().flat_map(|path| path.returns.iter().flatten().copied()).collect();
    let entries: BTreeSet<u64> = paths.iter().map(|path| path.entry).collect();
    for site in &mut *sites {
        if site.around.ends.iter().any(|end| returns.contains(end)) {
            site.around.ends = vec![site.call.after];
            // It was looked for at the other place.
            site.around.behind = None;
        }
    }
    let ends: BTreeSet<u64> = sites.iter().flat_map(|site| site.around.ends.iter().copied()).collect();
    for site in &mut *sites {
        let begin = site.around.begin;
        if ends.contains(&begin) || returns.contains(&begin) || entries.contains(&begin) {
            let [asked, iter] = site.target.signature.registers().map(ArgLocation::Register);
            (site.around.begin, site.around.asked, site.around.iter) = (site.call.address, asked, iter);
        }
    }
    let begins: BTreeSet<u64> = sites.iter().map(|site| site.around.begin).collect();
    for path in paths {
        if path.returns.iter().flatten().any(|at| ends.contains(at) || begins.contains(at)) {
            path.returns = None;
        }
        let is_taken = |place: u64| ends.contains(&place) || begins.contains(&place) || returns.contains(&place);
        if is_taken(path.entry) {
            path.entry = path.address;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        fuzz::functions::kernel_of_pieces,
        sites::{Placing, Sites},
    };

    /// mov %rbx,%rsi; mov %r12,%rdi: room for one jump, and no more.
    const MOVES: &[u8] = &[0x48, 0x89, 0xde, 0x4c, 0x89, 0xe7];
    const NOP: &[u8] = &[0x90];
    const RETURN: &[u8] = &[0x48, 0x31, 0xd2, 0x48, 0x31, 0xd2, 0xc3];

    fn sites(pieces: &[&[u8]]) -> Sites {
        let kernel = kernel_of_pieces(pieces).expect("there are symbols");
        Sites::find(&kernel, Placing::Optimisable).expect("there are sites")
    }

    #[test]
    fn points_that_do_not_meet_stay() {
        // xor %rdx,%rdx, twice
        let found = sites(&[NOP, &[&RETURN[..6], MOVES].concat(), RETURN]);
        let [first, second] = &found.sites[..] else { panic!("{:?}", found.sites) };
        assert_eq!(first.around.ends, [first.call.after]);
        assert_eq!(second.around.begin, second.call.address - MOVES.len() as u64);
        assert_eq!(found.paths[0].returns.as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn a_call_is_probed_itself_where_another_one_ends_before_it() {
        let found = sites(&[NOP, MOVES, RETURN]);
        let [first, second] = &found.sites[..] else { panic!("{:?}", found.sites) };
        assert_eq!(first.around.ends, [first.call.after]);
        assert_eq!(second.around.begin, second.call.address);
    }

    #[test]
    fn a_call_is_probed_itself_where_the_path_is_entered_before_it() {
        let found = sites(&[MOVES, RETURN]);
        assert_eq!(found.sites[0].around.begin, found.sites[0].call.address);
        assert_eq!(found.paths[0].entry, found.sites[0].call.address - MOVES.len() as u64);
    }

    #[test]
    fn a_return_right_behind_a_call_has_no_point() {
        let found = sites(&[NOP, &[0xc3]]);
        assert_eq!(found.sites[0].around.ends, [found.sites[0].call.after]);
        assert_eq!(found.paths[0].returns, None);
    }
}
