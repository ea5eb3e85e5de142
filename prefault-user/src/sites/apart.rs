//! Points that must not be at one address.
//!
//! The kernel runs the probes of one address in the order in which they were made, the last one first (kernel/kprobes.c,
//! add_new_kprobe), and they are made on several threads at once: what is counted would depend on it. Where points meet, each goes
//! back to the very instruction it stands for.

use std::collections::BTreeSet;

use super::{Holder, Path, Site};

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
            let [asked, iter] = site.target.signature.registers().map(Holder::Register);
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
