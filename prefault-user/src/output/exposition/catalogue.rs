//! The metrics: one table of names, help and values.

use prefault_ebpf::Loss;

use super::{
    buckets::seconds,
    families::{Family, Values},
};
use crate::data::{Mode, PathStats};

const fn family(name: &'static str, help: &'static str, values: Values) -> Family {
    Family { name, help, values }
}

/// Every metric, in the order of the exposition.
pub static FAMILIES: [Family; 47] = [
    family(
        "prefault_up",
        "1: measuring is on, 0: points are silenced.",
        Values::Gauge(|exported| Some(if exported.silenced.is_silenced() { 0.0 } else { 1.0 })),
    ),
    family("prefault_build_info", "Version of prefault.", Values::Info("version", |_| env!("CARGO_PKG_VERSION"))),
    family("prefault_kernel_info", "Release of the kernel.", Values::Info("release", |exported| &exported.kernel)),
    family("prefault_writes_total", "Writes that returned.", Values::Filesystem(|of| of.write.calls)),
    family("prefault_write_bytes_total", "Bytes written.", Values::Filesystem(|of| of.write.bytes)),
    family("prefault_writes_failed_total", "Writes that returned an error.", Values::Filesystem(|of| of.write.errors)),
    family(
        "prefault_writes_kernel_memory_total",
        "Writes from kernel memory, which have no latency.",
        Values::Filesystem(|of| of.write.kernel_calls),
    ),
    family(
        "prefault_write_duration_seconds",
        "Latencies of writes from user memory.",
        Values::Latency(|of| &of.write.latency),
    ),
    family("prefault_prefaults_total", "Prefaults that returned.", Values::Filesystem(|of| of.prefault.calls)),
    family(
        "prefault_prefault_bytes_total",
        "Bytes asked to be faulted in.",
        Values::Filesystem(|of| of.prefault.bytes),
    ),
    family(
        "prefault_prefaults_needed_total",
        "Prefaults that took page faults, major if one of them was.",
        Values::Kinds(&[("minor", |of| of.prefault.needed_minor), ("major", |of| of.prefault.needed_major)]),
    ),
    family(
        "prefault_prefaults_failed_total",
        "Prefaults that left bytes unfaulted, wholly if all of them.",
        Values::Kinds(&[("wholly", |of| of.prefault.failed_wholly), ("partly", |of| of.prefault.failed_partly)]),
    ),
    family(
        "prefault_prefault_page_faults_total",
        "Page faults taken inside prefaults.",
        Values::Kinds(&[("minor", |of| of.prefault.minor_faults), ("major", |of| of.prefault.major_faults)]),
    ),
    family(
        "prefault_prefaults_kernel_memory_total",
        "Prefaults of kernel memory, which return at once and have no latency.",
        Values::Filesystem(|of| of.prefault.kernel_calls),
    ),
    family(
        "prefault_prefault_duration_seconds",
        "Latencies of prefaults of user memory.",
        Values::Latency(|of| &of.prefault.latency),
    ),
    family("prefault_copies_total", "Atomic copies that returned.", Values::Filesystem(|of| of.copy.calls)),
    family(
        "prefault_copy_bytes_asked_total",
        "Bytes that atomic copies were asked to copy.",
        Values::Filesystem(|of| of.copy.bytes_asked),
    ),
    family(
        "prefault_copy_bytes_total",
        "Bytes that atomic copies copied.",
        Values::Filesystem(|of| of.copy.bytes_copied),
    ),
    family(
        "prefault_copies_short_total",
        "Atomic copies that copied nothing (zero) or not all (partial) of what was asked.",
        Values::Kinds(&[("zero", |of| of.copy.zero), ("partial", |of| of.copy.partial)]),
    ),
    family(
        "prefault_copies_kernel_memory_total",
        "Atomic copies from kernel memory, which have no latency.",
        Values::Filesystem(|of| of.copy.kernel_calls),
    ),
    family(
        "prefault_copy_duration_seconds",
        "Latencies of atomic copies from user memory.",
        Values::Latency(|of| &of.copy.latency),
    ),
    family(
        "prefault_path_calls_total",
        "Calls of a write path that returned, nested ones included.",
        Values::PathCounter(|path| path.calls),
    ),
    family(
        "prefault_path_not_returned",
        "Calls of a write path that have not returned: in flight, or their return was lost.",
        Values::PathGauge(PathStats::not_returned),
    ),
    family(
        "prefault_path_copying_calls_total",
        "Calls of a write path that copied, by whether a prefault came before the first copy.",
        Values::PathModes(&[(Mode::EAGER, |path| path.eager), (Mode::ON_DEMAND, |path| path.on_demand)]),
    ),
    family(
        "prefault_path_prefaults_total",
        "Prefaults that a write path called itself.",
        Values::PathCounter(|path| path.prefaults),
    ),
    family(
        "prefault_path_copies_total",
        "Atomic copies that a write path called itself.",
        Values::PathCounter(|path| path.copies),
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
