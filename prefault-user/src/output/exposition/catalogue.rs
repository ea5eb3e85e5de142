//! The metrics: names, help and values. Those of counters are made of the table of counters in the ABI, the others are listed here.

use std::sync::LazyLock;

use prefault_ebpf::{
    CopyLedger, Counter, Distribution, Histogram, Loss, Metric, PathLedger, PrefaultLedger, WriteLedger,
};

use super::{
    buckets::seconds,
    families::{Count, Family, Labelled, Latency, RoundsOf, Values},
};
use crate::data::FilesystemInterval;

const fn family(name: &'static str, help: &'static str, values: Values) -> Family {
    Family { name, help, values }
}

/// Every metric, in the order of the exposition.
pub static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let mut families = Vec::from(OF_TOOL);
    families.extend(of_ledger(WriteLedger::COUNTERS, WriteLedger::LATENCIES, |of| &of.ledger.write));
    families.extend(WriteLedger::ROUNDS.iter().map(|rounds| {
        let value: RoundsOf = Box::new(|of| (rounds.value)(&of.ledger.write));
        family(rounds.metric.name, rounds.help, Values::Rounds(value))
    }));
    families.extend(of_ledger(PrefaultLedger::COUNTERS, PrefaultLedger::LATENCIES, |of| &of.ledger.prefault));
    families.extend(of_ledger(CopyLedger::COUNTERS, CopyLedger::LATENCIES, |of| &of.ledger.copy));
    families.extend(of_paths());
    families.extend(OF_SESSION);
    families
});

/// The metrics of a ledger that `read` finds.
fn of_ledger<L>(
    counters: &'static [Counter<L>],
    latencies: &'static [Distribution<L, Histogram>],
    read: fn(&FilesystemInterval) -> &L,
) -> Vec<Family> {
    let counters = counters.iter().filter_map(|counter| {
        let value: Count = Box::new(move |of| (counter.value)(read(of)));
        Some((counter.metric?, counter.help, value))
    });
    let latencies = latencies.iter().map(|latency| {
        let value: Latency = Box::new(move |of| (latency.value)(read(of)));
        (latency.metric, latency.help, value)
    });
    let mut families = of_names(counters, Values::Counters);
    families.extend(of_names(latencies, Values::Latencies));
    families
}

/// The metrics of write paths.
fn of_paths() -> Vec<Family> {
    let counters = PathLedger::COUNTERS.iter();
    of_names(counters.filter_map(|counter| Some((counter.metric?, counter.help, counter.value))), Values::PathCounters)
}

/// One metric for all values of a name, each with its help; in the order in which names come first.
fn of_names<F>(
    values: impl Iterator<Item = (Metric, &'static str, F)>,
    into_values: fn(Vec<Labelled<F>>) -> Values,
) -> Vec<Family> {
    let mut metrics: Vec<(Metric, Vec<Labelled<F>>)> = Vec::new();
    for (metric, help, value) in values {
        let value = Labelled { label: metric.label, help, value };
        match metrics.iter_mut().find(|(known, _)| known.name == metric.name) {
            Some((_, values)) => values.push(value),
            None => metrics.push((metric, vec![value])),
        }
    }
    let of_metric = |(metric, values): (Metric, Vec<Labelled<F>>)| {
        family(metric.name, metric.help.unwrap_or(values[0].help), into_values(values))
    };
    metrics.into_iter().map(of_metric).collect()
}

/// What says which tool measures which kernel.
const OF_TOOL: [Family; 3] = [
    family(
        "prefault_up",
        "1: measuring is on, 0: points are silenced.",
        Values::Gauge(|exported| Some(if exported.silenced.is_silenced() { 0.0 } else { 1.0 })),
    ),
    family("prefault_build_info", "Version of prefault.", Values::Info("version", |_| env!("CARGO_PKG_VERSION"))),
    family("prefault_kernel_info", "Release of the kernel.", Values::Info("release", |exported| &exported.kernel)),
];

/// What says how measuring went, and when paths prefault.
const OF_SESSION: [Family; 22] = [
    family(
        "prefault_path_not_returned",
        "Calls of a write path that have not returned: in flight, or their return was lost.",
        Values::PathGauge(PathLedger::not_returned),
    ),
    family(
        "prefault_path_passed_calls_total",
        "Calls of a write path that began between windows, of which nothing else was counted.",
        Values::PathCounterOfGaps(|path| path.passed),
    ),
    family("prefault_path_info", "When a write path prefaults, as seen in its calls.", Values::PathMode),
    family(
        "prefault_sites",
        "Call sites by what measures them; none: could not be measured; not a write: need not be.",
        Values::Sites,
    ),
    family("prefault_loss_total", "What was missed, by cause.", Values::Loss),
    family("prefault_silenced_seconds_total", "Time in which points did not run, by cause.", Values::Silenced),
    family(
        "prefault_uncopied_bytes_total",
        "Bytes returned by writes that no copy was seen to copy.",
        Values::Counter(|exported| Some(exported.loss.counters[Loss::UncopiedBytes as usize] as f64)),
    ),
    family(
        "prefault_own_runs_total",
        "Runs of prefault's own BPF programs.",
        Values::Counter(|exported| exported.own_cost.map(|cost| cost.runs as f64)),
    ),
    family(
        "prefault_own_run_seconds_total",
        "Time in prefault's own BPF programs.",
        Values::Counter(|exported| exported.own_cost.map(|cost| seconds(cost.run_ns))),
    ),
    family(
        "prefault_sampling_ratio",
        "Share of writes that are timed, with their prefaults and copies; all are counted.",
        Values::Gauge(|exported| Some(exported.timed_one_in().map_or(0.0, |n| f64::from(n).recip()))),
    ),
    family(
        "prefault_overhead_seconds_total",
        "Processor time that measuring takes, with getting in and out of its programs.",
        Values::Counter(|exported| exported.limited.as_ref().map(|limited| limited.cost_ns / 1e9)),
    ),
    family(
        "prefault_overhead_limit_processors",
        "Processors, or a part of one, that measuring may take.",
        Values::Gauge(|exported| exported.limited.as_ref().map(|limited| limited.limit.processors())),
    ),
    family(
        "prefault_counted_seconds_total",
        "Time in which writes that began were counted.",
        Values::Counter(|exported| exported.limited.as_ref().map(|limited| seconds(limited.open_ns))),
    ),
    family(
        "prefault_passed_seconds_total",
        "Time between windows in which calls of write paths were counted.",
        Values::Counter(|exported| exported.limited.as_ref().map(|limited| seconds(limited.passed_ns))),
    ),
    family(
        "prefault_given_up_total",
        "Calls of write paths that had not returned a second after their window; they are not counted.",
        Values::Counter(|exported| exported.limited.as_ref().map(|limited| limited.given_up as f64)),
    ),
    family("prefault_floor_seconds", "What the points add to each prefault and copy latency.", Values::Floor),
    family(
        "prefault_series_over_limit",
        "Filesystems beyond the limit, counted under other.",
        Values::Gauge(|exported| Some(exported.n_over_limit as f64)),
    ),
    family(
        "prefault_filesystems_without_slot",
        "Filesystems that found no slot, counted under other.",
        Values::Gauge(|exported| Some(exported.n_without_slot as f64)),
    ),
    family(
        "prefault_uptime_seconds",
        "Time since measuring began.",
        Values::Gauge(|exported| Some(seconds(exported.uptime_ns))),
    ),
    family(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        Values::Gauge(|exported| exported.process.map(|process| process.resident_bytes as f64)),
    ),
    family(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        Values::Counter(|exported| exported.process.map(|process| process.cpu_seconds)),
    ),
    family(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        Values::Gauge(|exported| exported.process.map(|process| process.start_seconds)),
    ),
];
