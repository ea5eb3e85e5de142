//! The text at the end of a measurement: table, verdict and histograms of each filesystem, sites, losses.

use crate::data::{
    FilesystemInterval, Floor, Interval, LossEntry, LossReport, Operation, PathStats, Report, SiteReport, Timing,
};

use super::table::{self, Scale};
use super::{histogram, limited, sentence, units};

/// Columns that sentences are wrapped at.
const TEXT_WIDTH: usize = 100;

/// What a user may have expected to see where nothing was counted.
const UNSEEN: &str = "\
Not counted are stores to mapped files (mmap), direct I/O, DAX, network mounts without a cache, what the
kernel's own threads write out, and what filters leave out.\n";

/// Units that must not be parted from their number at the end of a line.
const UNITS: [&str; 10] = ["%", "ns", "µs", "ms", "s", "B", "KiB", "MiB", "GiB", "TiB"];

/// The whole report, ended by a newline.
pub fn report(report: &Report) -> String {
    let interval = &report.interval;
    let duration = units::duration(interval.duration_ns as f64);
    let mut text = format!("kernel {}, measured for {duration}\n\n", units::printable(&report.kernel));
    text.push_str(&table::table(interval, Scale::Total));
    if interval.active().next().is_some() {
        text.push('\n');
        text.push_str(table::LEGEND);
        text.push_str(&timed(report.timing, report.floor));
    } else {
        text.push_str(UNSEEN);
    }
    for filesystem in interval.active() {
        text.push('\n');
        text.push_str(&section(filesystem, report));
    }
    text.push('\n');
    text.push_str(&sites(&report.sites));
    text.push_str(&own_cost(interval));
    if let Some(limited) = &report.limited {
        text.push_str(&limited::report(limited));
    }
    text.push_str(&loss(&interval.loss, &not_understood(&report.sites)));
    text
}

/// What measuring took, as a line; nothing if that was not measured.
pub fn own_cost(interval: &Interval) -> String {
    let Some(own_cost) = interval.own_cost else { return String::new() };
    let share = own_cost.share_of_cpu(interval.duration_ns).map_or_else(|| "-".to_owned(), units::percent);
    format!(
        "own cost: {} of BPF programs, {} in all, {share} of one CPU; probing itself comes on top\n",
        units::counted(own_cost.runs, "run", "runs"),
        units::duration(own_cost.run_ns as f64)
    )
}

/// What was missed: `loss: none`, or one line for each counter that is not zero. `not_understood` are the callers whose operations
/// are lost.
pub fn loss(loss: &LossReport, not_understood: &[String]) -> String {
    if loss.is_empty() {
        return "loss: none\n".to_owned();
    }
    let width = loss.non_zero().map(|entry| units::lost(&entry).chars().count()).max().unwrap_or(0);
    let line = |entry: LossEntry| {
        let callers = match entry.is_unattributed() && !not_understood.is_empty() {
            true => format!(": {}", units::printable(&not_understood.join(", "))),
            false => String::new(),
        };
        format!("  {:>width$}  {}{callers}\n", units::lost(&entry), entry.phrase)
    };
    "loss:\n".to_owned() + &loss.non_zero().map(line).collect::<String>()
}

/// Callers whose operations are lost, each once.
fn not_understood(sites: &[SiteReport]) -> Vec<String> {
    let mut callers: Vec<String> =
        sites.iter().filter(|site| site.unattributed).map(|site| site.caller.clone()).collect();
    callers.sort();
    callers.dedup();
    callers
}

/// What the times are of, and what of them is the probes'.
fn timed(timing: Timing, floor: Option<Floor>) -> String {
    let include = format!("include the probes' own{}.\n", own_part(floor));
    match timing {
        Timing::All => format!("All times {include}"),
        Timing::None => "No write was timed; all are counted.\n".to_owned(),
        Timing::CoarseClock { step_ns } => {
            let step = units::duration(step_ns as f64);
            format!("No write was timed, because this machine's clock advances in steps of {step}; all are counted.\n")
        }
        Timing::OneIn(n) => {
            let n = units::count(n.into());
            format!("One write in {n} was timed, chosen at random; all are counted.\nTimes {include}")
        }
    }
}

/// What the probes' own part of a time is.
fn own_part(floor: Option<Floor>) -> String {
    let Floor { jump_ns, trap_ns } = floor.unwrap_or_default();
    let [jump, trap] = [jump_ns, trap_ns].map(|ns| ns.map(|ns| units::duration(ns as f64)));
    match (jump, trap) {
        (Some(jump), Some(trap)) => format!(": of a prefault or a copy {jump}, or {trap} where the probes are traps"),
        (Some(one), None) => format!(": of a prefault or a copy {one} where the probes are jumps"),
        (None, Some(one)) => format!(": of a prefault or a copy {one} where the probes are traps"),
        (None, None) => String::new(),
    }
}

/// The floor of the latencies of one operation of a filesystem.
fn floor_of(filesystem: &FilesystemInterval, report: &Report, operation: Operation) -> Option<u64> {
    let ran = |path: &String| filesystem.active_paths().any(|active| active.function == *path);
    report.floor?.of(report.sites.iter().filter(|site| site.operation == operation && site.paths.iter().any(ran)))
}

fn section(filesystem: &FilesystemInterval, report: &Report) -> String {
    let identity = &filesystem.identity;
    let mut text = units::printable(&identity.fstype);
    if identity.device != identity.fstype && identity.device != "-" {
        text.push_str(&format!(" on {}", units::printable(&identity.device)));
    }
    if (identity.major, identity.minor) != (0, 0) {
        text.push_str(&format!(" ({}:{})", identity.major, identity.minor));
    }
    text.push('\n');
    text.push_str(&paths(filesystem));
    text.push_str(&indented(&wrapped(&sentence::verdict(filesystem), TEXT_WIDTH - 2)));
    if report.timing.one_in().is_none() {
        return text;
    }
    let floor_of_prefaults = floor_of(filesystem, report, Operation::Prefault);
    // The time of a write has all the points in it that it met.
    for (name, latency, floor_ns) in [
        ("write", &filesystem.ledger.write.latency, None),
        ("prefault without a page fault", &filesystem.ledger.prefault.latency_not_needed, floor_of_prefaults),
        ("prefault with a page fault", &filesystem.ledger.prefault.latency_needed, floor_of_prefaults),
        ("copy", &filesystem.ledger.copy.latency, floor_of(filesystem, report, Operation::Copy)),
    ] {
        text.push('\n');
        text.push_str(&indented(&histogram::histogram(name, latency, floor_ns)));
    }
    text
}

fn paths(filesystem: &FilesystemInterval) -> String {
    let name_width = filesystem.active_paths().map(|path| path.function.chars().count()).max().unwrap_or(0);
    let line = |path: &PathStats| {
        let not_returned = match path.ledger.not_returned() {
            0 => String::new(),
            n => format!(", {} not returned yet", units::counted(n, "call", "calls")),
        };
        format!(
            "  {:<name_width$}  {:<9}  {}, {}, {}{not_returned}\n",
            path.function,
            path.mode(),
            units::counted(path.ledger.calls, "call", "calls"),
            units::counted(path.ledger.prefaults, "prefault", "prefaults"),
            units::counted(path.ledger.copies, "copy", "copies"),
        )
    };
    filesystem.active_paths().map(line).collect()
}

/// How many call sites were measured, and why the others were not.
fn sites(sites: &[SiteReport]) -> String {
    let n_attached = sites.iter().filter(|site| site.attached).count();
    let mut text = format!("call sites: {n_attached} of {} measured\n", sites.len());
    for site in sites.iter().filter(|site| !site.attached) {
        let module = site.module.as_ref().map_or_else(String::new, |module| format!(" [{module}]"));
        let why_not = site.why_not.as_deref().unwrap_or("no reason given");
        text.push_str(&format!("  {}+{:#x}{module} to {}: {why_not}\n", site.caller, site.offset, site.target));
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Text broken between words into lines of at most `width` columns, where words allow.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        let mut word = word.to_owned();
        while let Some(unit) = words.next_if(|next| UNITS.contains(&next.trim_end_matches(['.', ',', ';', ')']))) {
            word = format!("{word} {unit}");
        }
        let word_width = word.chars().count();
        if column > 0 && column + 1 + word_width > width {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(&word);
        column += word_width;
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::Loss;

    use super::*;

    #[test]
    fn lines_are_broken_between_words_but_not_before_a_unit() {
        for (text, expected) in [
            ("", "\n"),
            ("one two", "one two\n"),
            ("one two three", "one two\nthree\n"),
            ("of which 99 %, then", "of which\n99 %, then\n"),
            ("unbreakablelongword x", "unbreakablelongword\nx\n"),
        ] {
            assert_eq!(wrapped(text, 10), expected);
        }
    }

    #[test]
    fn no_loss_is_said_to_be_none() {
        assert_eq!(loss(&LossReport::default(), &[]), "loss: none\n");
        let lost = LossReport { kernel_missed_runs: 1200, events_unread: 3, ..LossReport::default() };
        assert_eq!(
            loss(&lost, &[]),
            "loss:\n  1,200  program runs skipped by the kernel\n      3  events not read from the ring; the counts are complete\n"
        );
    }

    #[test]
    fn a_loss_by_name_has_the_name_and_a_time_its_unit() {
        let mut lost = LossReport { silenced_ns: [0, 1_500_000_000], ..LossReport::default() };
        lost.counters[Loss::PrefaultUnattributed as usize] = 60;
        let text = loss(&lost, &["f2fs_file_write_iter".to_owned()]);
        let [first, second] = [
            "loss:\n      60  prefaults by callers that are not understood: f2fs_file_write_iter\n",
            "  1.50 s  in which all kprobes were switched off, or may have been: no kprobe ran\n",
        ];
        assert_eq!(text, format!("{first}{second}"));
    }
}
