//! Everything that was missed, by reason: one table of names and phrases for all outputs. Reasons are counters of the programs, or
//! times in which points were silenced ([`super::Silence`]).
//!
//! A reason that is missing from the table does not pass the tests. What a loss means for a number is said in its phrase.

use prefault_ebpf::{Loss, N_LOSSES};

use super::silence::{N_SILENCES, SILENCES};

/// How one reason is named.
struct Reason {
    loss: Loss,
    key: &'static str,
    phrase: &'static str,
}

const fn reason(loss: Loss, key: &'static str, phrase: &'static str) -> Reason {
    Reason { loss, key, phrase }
}

/// Reasons in the order of their counters.
const REASONS: [Reason; N_LOSSES] = [
    reason(Loss::WriteEnter, "write_enter", "writes returned whose entry was not seen"),
    reason(Loss::WriteLeave, "write_leave", "writes entered whose return was not seen"),
    reason(Loss::PrefaultBegin, "prefault_begin", "prefaults returned whose call was not seen"),
    reason(Loss::PrefaultEnd, "prefault_end", "prefaults called whose return was not seen"),
    reason(Loss::CopyBegin, "copy_begin", "copies returned whose call was not seen"),
    reason(Loss::CopyEnd, "copy_end", "copies called whose return was not seen"),
    reason(Loss::PrefaultOutside, "prefault_outside", "prefaults outside any write that was entered"),
    reason(Loss::CopyOutside, "copy_outside", "copies outside any write that was entered"),
    reason(Loss::UncopiedBytes, "uncopied_bytes", "bytes returned by writes that no copy was seen to copy"),
    reason(Loss::NoContext, "no_context", "points hit by tasks whose context could not be allocated"),
    reason(Loss::TooDeep, "too_deep", "paths nested too deep to be followed"),
    reason(Loss::NoFilesystem, "no_filesystem", "writes whose filesystem could not be read, counted under other"),
    reason(Loss::NotFollowed, "not_followed", "processes not followed because too many are"),
    reason(Loss::EventDropped, "event_dropped", "events dropped because the ring was full; the counts are complete"),
    reason(Loss::BeforeStart, "before_start", "writes in flight when measuring began"),
    reason(Loss::PrefaultUnattributed, "prefault_unattributed", "prefaults by callers that are not understood"),
    reason(Loss::CopyUnattributed, "copy_unattributed", "copies by callers that are not understood"),
];

const MISSED_RUNS_KEY: &str = "kernel_missed_runs";
const MISSED_RUNS_PHRASE: &str = "program runs skipped by the kernel";
const EVENTS_UNREAD_KEY: &str = "events_unread";
const EVENTS_UNREAD_PHRASE: &str = "events not read from the ring; the counts are complete";

/// What was missed in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossReport {
    /// The kernel side's counters, indexed by [`Loss`].
    pub counters: [u64; N_LOSSES],
    /// Runs of a program that the kernel itself skipped.
    pub kernel_missed_runs: u64,
    /// Events that reached the ring but were not read by userspace.
    pub events_unread: u64,
    /// Time in which points were silenced, in nanoseconds, indexed by [`super::Silence`].
    pub silenced_ns: [u64; N_SILENCES],
}

/// What is counted of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossUnit {
    /// How often something was missed.
    Times,
    /// Bytes.
    Bytes,
    /// Nanoseconds in which something was missed; nobody knows how often.
    Nanoseconds,
}

/// One reason and how often it occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossEntry {
    /// Name of the counter in machine-readable outputs, in snake case.
    pub key: &'static str,
    /// What was counted, in the plural.
    pub phrase: &'static str,
    /// How much.
    pub count: u64,
    /// Of what.
    pub unit: LossUnit,
}

impl LossEntry {
    /// Whether it is of callers that are not understood, which can be named.
    pub fn is_unattributed(&self) -> bool {
        [Loss::PrefaultUnattributed, Loss::CopyUnattributed].iter().any(|&loss| REASONS[loss as usize].key == self.key)
    }
}

impl LossReport {
    /// Every counter, those that are zero included, always in the same order.
    pub fn entries(&self) -> impl Iterator<Item = LossEntry> {
        let counted = REASONS.iter().map(|reason| LossEntry {
            key: reason.key,
            phrase: reason.phrase,
            count: self.counters[reason.loss as usize],
            unit: if reason.loss == Loss::UncopiedBytes { LossUnit::Bytes } else { LossUnit::Times },
        });
        let times = |key, phrase, count| LossEntry { key, phrase, count, unit: LossUnit::Times };
        let silenced = SILENCES.iter().zip(self.silenced_ns).map(|(row, count)| LossEntry {
            key: row.loss_key,
            phrase: row.phrase,
            count,
            unit: LossUnit::Nanoseconds,
        });
        let of_kernel = [
            times(MISSED_RUNS_KEY, MISSED_RUNS_PHRASE, self.kernel_missed_runs),
            times(EVENTS_UNREAD_KEY, EVENTS_UNREAD_PHRASE, self.events_unread),
        ];
        counted.chain(of_kernel).chain(silenced)
    }

    /// The counters that are not zero.
    pub fn non_zero(&self) -> impl Iterator<Item = LossEntry> {
        self.entries().filter(|entry| entry.count > 0)
    }

    /// Whether nothing at all was missed.
    pub fn is_empty(&self) -> bool {
        self.non_zero().next().is_none()
    }

    /// Count of one of the kernel side's reasons.
    pub fn count(&self, loss: Loss) -> u64 {
        self.counters[loss as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_has_every_reason_once_and_in_order() {
        for (index, reason) in REASONS.iter().enumerate() {
            assert_eq!(reason.loss as usize, index, "{}", reason.key);
        }
    }

    #[test]
    fn keys_and_phrases_are_unique_and_well_formed() {
        let entries: Vec<LossEntry> = LossReport::default().entries().collect();
        assert_eq!(entries.len(), N_LOSSES + 2 + N_SILENCES);
        let keys: HashSet<&str> = entries.iter().map(|entry| entry.key).collect();
        let phrases: HashSet<&str> = entries.iter().map(|entry| entry.phrase).collect();
        assert_eq!((keys.len(), phrases.len()), (entries.len(), entries.len()));
        for LossEntry { key, phrase, .. } in entries {
            assert!(key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{key}");
            assert!(!phrase.is_empty() && !phrase.ends_with('.'), "{phrase}");
        }
    }

    #[test]
    fn a_key_is_the_variant_in_snake_case() {
        for reason in &REASONS {
            let camel: String = reason.key.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            assert_eq!(camel, format!("{:?}", reason.loss));
        }
    }

    #[test]
    fn each_counter_alone_makes_a_loss() {
        assert!(LossReport::default().is_empty());
        let mut reports: Vec<LossReport> = (0..N_LOSSES)
            .map(|index| {
                let mut report = LossReport::default();
                report.counters[index] = 7;
                report
            })
            .collect();
        reports.push(LossReport { kernel_missed_runs: 7, ..LossReport::default() });
        reports.push(LossReport { events_unread: 7, ..LossReport::default() });
        reports.extend((0..N_SILENCES).map(|index| {
            let mut report = LossReport::default();
            report.silenced_ns[index] = 7;
            report
        }));
        let seen: Vec<LossEntry> = reports.iter().flat_map(LossReport::non_zero).collect();
        assert_eq!(seen.len(), N_LOSSES + 2 + N_SILENCES);
        assert!(seen.iter().all(|entry| entry.count == 7));
        assert!(reports.iter().all(|report| !report.is_empty()));
        assert_eq!(reports[Loss::EventDropped as usize].count(Loss::EventDropped), 7);
    }
}
