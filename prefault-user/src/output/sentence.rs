//! What the counters of one filesystem say, in plain sentences and nothing beyond it.
//!
//! A short copy means something else on an eager path, where the prefault has already repaired what would have failed,
//! than on an on-demand one. So each mode has its own sentences, and unlike modes are never compared.

use prefault_ebpf::{CopyLedger, Histogram, Ledger, PrefaultLedger};

use crate::data::{FilesystemInterval, Mode, Quantiles as _};

use super::units::{self, count, fraction, percent};

/// The sentences for a filesystem, without a newline.
pub fn verdict(filesystem: &FilesystemInterval) -> String {
    let Ledger { prefault, copy, .. } = &filesystem.ledger;
    let mut sentences = match filesystem.mode() {
        Mode::Eager => eager(filesystem),
        Mode::OnDemand => on_demand(filesystem),
        Mode::Mixed => vec![
            "Mixed: prefaults before and after short copies are counted together.".to_owned(),
            prefaults(prefault),
            copies(copy),
        ],
        Mode::NotSeen => {
            vec!["No copy was seen, so when it prefaults cannot be told.".to_owned(), prefaults(prefault)]
        }
    };
    sentences.extend(failures(prefault));
    sentences.extend(kernel_memory(filesystem));
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.join(" ")
}

fn eager(filesystem: &FilesystemInterval) -> Vec<String> {
    let Ledger { prefault, copy, .. } = &filesystem.ledger;
    let user_calls = prefault.user_calls();
    let Some(needed) = fraction(prefault.needed(), user_calls) else {
        return vec!["Eager: no prefault of user memory.".to_owned(), copies(copy)];
    };
    // A prefault that fails takes no page fault that the task's counters show, and did not find the buffer resident.
    let all_resident = prefault.failed() == 0;
    let (part, rest) = (percent(needed), percent(1.0 - needed));
    let outcome = match prefault.needed() {
        0 if all_resident => "none took a page fault: all found the buffer resident".to_owned(),
        0 => "none took a page fault".to_owned(),
        n if n == user_calls => "all took page faults".to_owned(),
        _ if all_resident => format!("{part} took page faults, the other {rest} found the buffer resident"),
        _ => format!("{part} took page faults, the other {rest} none"),
    };
    vec![format!("Eager: of {} prefaults of user memory {outcome}.", count(user_calls)), cost(filesystem), copies(copy)]
}

fn on_demand(filesystem: &FilesystemInterval) -> Vec<String> {
    let Ledger { prefault, copy, .. } = &filesystem.ledger;
    let mut sentences = vec![format!("On-demand: {}", lower_first(&copies(copy)))];
    if prefault.user_calls() > 0 {
        sentences.push(prefaults(prefault));
        sentences.push(cost(filesystem));
    } else {
        sentences.push("No prefault ran.".to_owned());
    }
    sentences
}

fn prefaults(prefault: &PrefaultLedger) -> String {
    let user_calls = prefault.user_calls();
    let Some(needed) = fraction(prefault.needed(), user_calls) else {
        return "No prefault of user memory ran.".to_owned();
    };
    match prefault.needed() {
        0 => format!("None of {} prefaults took a page fault.", count(user_calls)),
        n if n == user_calls => format!("All of {} prefaults took page faults.", count(user_calls)),
        n => format!("{} of {} prefaults took page faults ({}).", count(n), count(user_calls), percent(needed)),
    }
}

fn cost(filesystem: &FilesystemInterval) -> String {
    let PrefaultLedger { latency_needed, latency_not_needed, .. } = &filesystem.ledger.prefault;
    let share = filesystem
        .prefault_share()
        .map_or_else(String::new, |share| format!("; prefaults are {} of the write time", percent(share)));
    let median = |latency: &Histogram| latency.quantile(0.5).map(units::duration);
    match (median(latency_not_needed), median(latency_needed)) {
        (None, None) => String::new(),
        (Some(idle), None) => format!("A prefault took {idle} in the median{share}."),
        (None, Some(fault)) => format!("A prefault took {fault} in the median{share}."),
        (Some(idle), Some(fault)) => {
            format!("A prefault took {idle} in the median without a page fault and {fault} with one{share}.")
        }
    }
}

fn copies(copy: &CopyLedger) -> String {
    let user_calls = copy.user_calls();
    let Some(short) = fraction(copy.short(), user_calls) else {
        return "No copy from user memory ran.".to_owned();
    };
    if copy.short() == 0 {
        return format!("None of {} copies came up short.", count(user_calls));
    }
    let kinds = match (copy.zero, copy.partial) {
        (_, 0) => "all of them empty".to_owned(),
        (0, _) => "all of them partial".to_owned(),
        (zero, partial) => format!("{} empty, {} partial", count(zero), count(partial)),
    };
    format!(
        "{} of {} copies came up short ({}; {kinds}), missing {}.",
        count(copy.short()),
        count(user_calls),
        percent(short),
        units::bytes(copy.bytes_missed()),
    )
}

fn failures(prefault: &PrefaultLedger) -> Option<String> {
    let (wholly, partly) = (count(prefault.failed_wholly), count(prefault.failed_partly));
    (prefault.failed() > 0)
        .then(|| format!("Prefaults that could not fault in the buffer: {wholly} wholly, {partly} partly."))
}

fn kernel_memory(filesystem: &FilesystemInterval) -> Option<String> {
    let Ledger { write, copy, .. } = &filesystem.ledger;
    (write.kernel_calls > 0 || copy.kernel_calls > 0).then(|| {
        format!(
            "From kernel memory, which is always resident: {} of {} writes, {} of {} copies; they are in no latency.",
            count(write.kernel_calls),
            count(write.calls),
            count(copy.kernel_calls),
            count(copy.calls),
        )
    })
}

fn lower_first(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::{PathLedger, WriteLedger};

    use super::*;
    use crate::data::{Filesystem, PathStats};

    fn filesystem(mode: Mode, prefault: PrefaultLedger, copy: CopyLedger) -> FilesystemInterval {
        let calls = |seen: &[Mode]| if seen.contains(&mode) { 10 } else { 0 };
        let ledger = PathLedger {
            entered: 10,
            calls: 10,
            eager: calls(&[Mode::Eager, Mode::Mixed]),
            on_demand: calls(&[Mode::OnDemand, Mode::Mixed]),
            prefaults: prefault.calls,
            copies: copy.calls,
            passed: 0,
        };
        let path = PathStats { path: 0, function: "generic_perform_write".to_owned(), ledger };
        let ledger = Ledger { write: WriteLedger::ZERO, prefault, copy };
        FilesystemInterval { identity: Filesystem::other(), ledger, paths: vec![path] }
    }

    fn prefaults_of(calls: u64, needed_minor: u64, failed_wholly: u64) -> PrefaultLedger {
        PrefaultLedger { calls, needed_minor, failed_wholly, ..PrefaultLedger::ZERO }
    }

    fn copies_of(calls: u64, zero: u64, partial: u64) -> CopyLedger {
        let (bytes_asked, bytes_copied) = (calls * 100, (calls - zero) * 100 - partial * 50);
        CopyLedger { calls, zero, partial, bytes_asked, bytes_copied, ..CopyLedger::ZERO }
    }

    #[test]
    fn each_mode_has_its_sentences() {
        use Mode::{Eager, Mixed, NotSeen, OnDemand};
        for (mode, (calls, needed, failed), (zero, partial), expected) in [
            (Eager, (10, 0, 0), (0, 0), "none took a page fault: all found the buffer resident. None of 10 copies"),
            (Eager, (10, 10, 0), (0, 0), "Eager: of 10 prefaults of user memory all took page faults. None"),
            (Eager, (10, 1, 0), (0, 0), "10.0 % took page faults, the other 90.0 % found the buffer resident."),
            (
                Eager,
                (10, 0, 2),
                (0, 0),
                "memory none took a page fault. None of 10 copies came up short. Prefaults that",
            ),
            (Eager, (10, 1, 2), (0, 0), "10.0 % took page faults, the other 90.0 % none. None of"),
            (Eager, (0, 0, 0), (0, 0), "Eager: no prefault of user memory. None of 10"),
            (OnDemand, (0, 0, 0), (0, 0), "On-demand: none of 10 copies came up short. No prefault ran."),
            (
                OnDemand,
                (1, 1, 0),
                (1, 0),
                "1 of 10 copies came up short (10.0 %; all of them empty), missing 100 B. All",
            ),
            (OnDemand, (2, 1, 0), (0, 2), "(20.0 %; all of them partial), missing 100 B. 1 of 2 prefaults took page"),
            (Mixed, (2, 0, 0), (0, 0), "counted together. None of 2 prefaults took a page fault. None of 10 copies"),
            (NotSeen, (3, 0, 0), (0, 0), "cannot be told. None of 3 prefaults took a page fault."),
        ] {
            let filesystem = filesystem(mode, prefaults_of(calls, needed, failed), copies_of(10, zero, partial));
            let verdict = verdict(&filesystem);
            assert!(verdict.contains(expected), "{verdict}");
        }
    }

    #[test]
    fn cost_is_said_only_with_latencies() {
        let mut filesystem = filesystem(Mode::Eager, prefaults_of(1, 0, 0), copies_of(1, 0, 0));
        assert!(!verdict(&filesystem).contains("A prefault took"));
        let mut latency = Histogram { sum_ns: 100, ..Histogram::default() };
        latency.counts[prefault_ebpf::bucket_of(100)] = 1;
        filesystem.ledger.prefault.latency_not_needed = latency;
        assert!(verdict(&filesystem).contains("A prefault took 92 ns in the median. "));
        filesystem.ledger.write.latency = Histogram { sum_ns: 1000, ..latency };
        assert!(verdict(&filesystem).contains("; prefaults are 10.0 % of the write time. "));
        filesystem.ledger.prefault.latency_needed = latency;
        let both = "took 92 ns in the median without a page fault and 92 ns with one; prefaults are 20.0 %";
        assert!(verdict(&filesystem).contains(both));
    }
}
