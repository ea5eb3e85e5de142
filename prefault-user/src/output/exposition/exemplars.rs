//! Exemplars: of a counter of short copies or failed prefaults the latest one, with who wrote and where.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use prefault_ebpf::EventKind;
use prometheus_client::{encoding::MetricEncoder, metrics::exemplar::CounterWithExemplar};

use super::families::{Sample, Value};
use crate::data::{EventRecord, Exemplar};

/// The exemplar of a sample of the family `name`, with the sample's value.
pub fn of<'a>(exemplars: &'a [Exemplar], name: &str, sample: &Sample<'_>) -> Option<(u64, &'a Exemplar)> {
    let Value::Count(count) = sample.value else { return None };
    let label = |name| sample.labels.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let is_of = |exemplar: &&Exemplar| {
        let event = &exemplar.event;
        let (counter, kind) = counter_of(event);
        // The ring may be ahead of the counters that were read.
        count > 0
            && counter == name
            && label("kind") == Some(kind)
            && label("fstype") == Some(&*event.fstype)
            && label("device") == Some(&*event.device)
    };
    exemplars.iter().find(is_of).map(|exemplar| (count, exemplar))
}

/// The counter that has counted an event, and its label `kind`.
fn counter_of(event: &EventRecord) -> (&'static str, &'static str) {
    match (event.kind, event.done) {
        (EventKind::ShortCopy, 0) => ("prefault_copies_short_total", "zero"),
        (EventKind::ShortCopy, _) => ("prefault_copies_short_total", "partial"),
        (EventKind::FailedPrefault, 0) => ("prefault_prefaults_failed_total", "wholly"),
        (EventKind::FailedPrefault, _) => ("prefault_prefaults_failed_total", "partly"),
    }
}

/// Adds a sample with its exemplar. OpenMetrics allows 128 characters for all labels of one, of which these take 85.
pub fn encode(metric: &mut MetricEncoder<'_>, count: u64, exemplar: &Exemplar) -> fmt::Result {
    let EventRecord { pid, comm, inode, position, .. } = &exemplar.event;
    let labels = vec![
        ("comm", comm.clone()),
        ("pid", pid.to_string()),
        ("inode", inode.to_string()),
        ("position", position.to_string()),
    ];
    // An exemplar has no other way to come about.
    let counter = CounterWithExemplar::<Vec<(&str, String)>>::default();
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(exemplar.unix_ns);
    counter.inc_by(1, Some(labels), Some(time));
    metric.encode_counter(&count, counter.get().1.as_ref())
}
