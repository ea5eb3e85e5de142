//! The panels of the dashboard, as a table. How they become Grafana's document is said in `dashboard`.
//!
//! `%fs` and `%host` stand for the selectors that the variables of the dashboard make.

/// How a panel shows its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One number each.
    Stat,
    /// Lines over time.
    Lines,
    /// Three quantiles over time, of the classic histogram that the query names.
    Quantiles,
    /// Latencies over time, of the native histogram that the query names.
    Heatmap,
    /// The labels of series as columns.
    Table,
}

/// One panel.
pub struct Panel {
    /// How it shows.
    pub kind: Kind,
    /// Of Grafana's 24 columns.
    pub width: u32,
    /// Its heading.
    pub title: &'static str,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// What a reader has to know.
    pub description: &'static str,
    /// Expressions, each with its legend.
    pub queries: &'static [(&'static str, &'static str)],
}

/// A row of panels under a heading.
pub struct Row {
    /// Its heading.
    pub title: &'static str,
    /// What is in it.
    pub panels: &'static [Panel],
}

const fn panel(
    kind: Kind,
    width: u32,
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { kind, width, title, unit, description, queries }
}

const FILESYSTEM: &str = "{{instance}} {{fstype}} {{device}}";

const OVERVIEW: Row = Row {
    title: "Overview",
    panels: &[
        panel(Kind::Stat, 4, "Hosts", "none", "Hosts that answer.", &[("sum(prefault_up{%host})", "up")]),
        panel(
            Kind::Stat,
            4,
            "Writes",
            "wps",
            "Buffered writes that returned.",
            &[("sum(rate(prefault_writes_total{%fs}[$__rate_interval]))", "writes")],
        ),
        panel(
            Kind::Stat,
            4,
            "Prefaults needed",
            "percentunit",
            "Share of the prefaults of user memory that took a page fault.",
            &[(
                "sum(rate(prefault_prefaults_needed_total{%fs}[$__rate_interval])) / \
                 (sum(rate(prefault_prefaults_total{%fs}[$__rate_interval])) - \
                 sum(rate(prefault_prefaults_kernel_memory_total{%fs}[$__rate_interval])))",
                "needed",
            )],
        ),
        panel(
            Kind::Stat,
            4,
            "Copies short",
            "percentunit",
            "Share of the copies from user memory that copied less than asked.",
            &[(
                "sum(rate(prefault_copies_short_total{%fs}[$__rate_interval])) / \
                 (sum(rate(prefault_copies_total{%fs}[$__rate_interval])) - \
                 sum(rate(prefault_copies_kernel_memory_total{%fs}[$__rate_interval])))",
                "short",
            )],
        ),
        panel(
            Kind::Stat,
            4,
            "Unnecessary prefaults",
            "s",
            "Time per second in prefaults that found the buffer resident: their number by the median latency, without the least \
             that the points add.",
            &[("sum(instance_device:prefault_unnecessary_prefault_seconds:rate5m{%fs})", "per second")],
        ),
        panel(
            Kind::Stat,
            4,
            "Missed in 15 minutes",
            "none",
            "What makes counts too low. 0 is good.",
            &[("sum(instance:prefault_counts_lost:increase15m{%host})", "missed")],
        ),
    ],
};

const PREFAULTS: Row = Row {
    title: "Prefaults",
    panels: &[
        panel(
            Kind::Lines,
            12,
            "Needed, of all prefaults",
            "percentunit",
            "On an eager path the rest was for nothing; on an on-demand path every prefault follows a short copy.",
            &[("instance_device:prefault_prefaults_needed:ratio_rate5m{%fs}", FILESYSTEM)],
        ),
        panel(
            Kind::Lines,
            12,
            "Time in prefaults, of the time in writes",
            "percentunit",
            "Both include the probes' own time.",
            &[("instance_device:prefault_prefault_time:ratio_rate5m{%fs}", FILESYSTEM)],
        ),
        panel(
            Kind::Lines,
            12,
            "Time in unnecessary prefaults",
            "s",
            "Seconds per second: what moving the prefault to the slow path would save at most.",
            &[("instance_device:prefault_unnecessary_prefault_seconds:rate5m{%fs}", FILESYSTEM)],
        ),
        panel(
            Kind::Lines,
            12,
            "Page faults and failures",
            "ops",
            "Page faults inside prefaults, and prefaults that could not fault everything in.",
            &[
                (
                    "sum by (kind) (rate(prefault_prefault_page_faults_total{%fs}[$__rate_interval]))",
                    "{{kind}} page faults",
                ),
                ("sum by (kind) (rate(prefault_prefaults_failed_total{%fs}[$__rate_interval]))", "failed {{kind}}"),
            ],
        ),
    ],
};

const COPIES: Row = Row {
    title: "Copies",
    panels: &[
        panel(
            Kind::Lines,
            12,
            "Short, of all copies",
            "percentunit",
            "Copies from user memory that copied less than asked.",
            &[("instance_device:prefault_copies_short:ratio_rate5m{%fs}", FILESYSTEM)],
        ),
        panel(
            Kind::Lines,
            12,
            "Copies of nothing, by write",
            "none",
            "One or two by write are usual on demand; many mean that a write makes no progress.",
            &[("instance_device:prefault_copies_zero_per_write:ratio_rate5m{%fs}", FILESYSTEM)],
        ),
        panel(
            Kind::Lines,
            12,
            "Short copies",
            "ops",
            "zero: nothing was copied; partial: some of what was asked.",
            &[(
                "sum by (fstype, kind) (rate(prefault_copies_short_total{%fs}[$__rate_interval]))",
                "{{fstype}} {{kind}}",
            )],
        ),
        panel(
            Kind::Lines,
            12,
            "Bytes",
            "Bps",
            "Bytes written, and bytes copied in vain: those that a copy took and the write did not.",
            &[
                ("sum by (fstype) (rate(prefault_write_bytes_total{%fs}[$__rate_interval]))", "{{fstype}} written"),
                (
                    "sum by (fstype) (rate(prefault_copy_bytes_asked_total{%fs}[$__rate_interval]) - \
                     rate(prefault_copy_bytes_total{%fs}[$__rate_interval]))",
                    "{{fstype}} asked and not copied",
                ),
            ],
        ),
    ],
};

const LATENCIES: Row = Row {
    title: "Latencies (of user memory, probes included)",
    panels: &[
        latency(Kind::Quantiles, "Writes", &[("prefault_write_duration_seconds_bucket", "{{fstype}}")]),
        latency(
            Kind::Quantiles,
            "Prefaults without a page fault",
            &[("prefault_prefault_duration_seconds_bucket{needed=\"no\"}", "{{fstype}}")],
        ),
        latency(
            Kind::Quantiles,
            "Prefaults with a page fault",
            &[("prefault_prefault_duration_seconds_bucket{needed=\"yes\"}", "{{fstype}}")],
        ),
        latency(Kind::Quantiles, "Copies", &[("prefault_copy_duration_seconds_bucket", "{{fstype}}")]),
        latency(Kind::Heatmap, "Writes", &[("prefault_write_duration_seconds", "")]),
        latency(Kind::Heatmap, "Prefaults", &[("prefault_prefault_duration_seconds", "")]),
        latency(Kind::Heatmap, "Copies", &[("prefault_copy_duration_seconds", "")]),
    ],
};

const fn latency(kind: Kind, title: &'static str, queries: &'static [(&'static str, &'static str)]) -> Panel {
    let description = match kind {
        Kind::Heatmap => "Needs native histograms (scrape_native_histograms: true).",
        _ => "Half, nine tenths and 99 hundredths took no longer.",
    };
    panel(kind, 8, title, "s", description, queries)
}

const PATHS: Row = Row {
    title: "Write paths",
    panels: &[
        panel(
            Kind::Table,
            12,
            "Mode of each path",
            "none",
            "eager: prefaults before every copy; on-demand: after a short copy.",
            &[("max by (instance, fstype, device, path, mode) (prefault_path_info{%fs})", "")],
        ),
        panel(
            Kind::Lines,
            6,
            "Calls",
            "cps",
            "Calls of write paths that returned.",
            &[("sum by (path) (rate(prefault_path_calls_total{%fs}[$__rate_interval]))", "{{path}}")],
        ),
        panel(
            Kind::Lines,
            6,
            "Not returned",
            "none",
            "Calls that are under way, or whose return was not seen.",
            &[("sum by (path) (prefault_path_not_returned{%fs})", "{{path}}")],
        ),
    ],
};

const TOOL: Row = Row {
    title: "The tool itself",
    panels: &[
        panel(
            Kind::Lines,
            8,
            "Missed",
            "none",
            "By cause, in the last 15 minutes; docs/metrics.md says what each is.",
            &[
                ("sum by (instance, cause) (increase(prefault_loss_total{%host}[15m])) > 0", "{{instance}} {{cause}}"),
                ("increase(prefault_uncopied_bytes_total{%host}[15m]) > 0", "{{instance}} bytes uncopied"),
            ],
        ),
        panel(
            Kind::Lines,
            8,
            "Cost",
            "percentunit",
            "Processors in use: by the BPF programs (only while runs are measured), with getting in and out of them and the limit \
             (only with --max-overhead), and by the exporter.",
            &[
                ("rate(prefault_overhead_seconds_total{%host}[$__rate_interval])", "{{instance}} all of measuring"),
                ("prefault_overhead_limit_processors{%host}", "{{instance}} limit"),
                ("instance:prefault_own_run_seconds:rate5m{%host}", "{{instance}} programs"),
                ("rate(process_cpu_seconds_total{%host}[$__rate_interval])", "{{instance}} exporter"),
            ],
        ),
        panel(
            Kind::Lines,
            8,
            "Memory of the exporter",
            "bytes",
            "Resident.",
            &[("process_resident_memory_bytes{%host}", "{{instance}}")],
        ),
        panel(
            Kind::Table,
            12,
            "Call sites",
            "none",
            "Number of calls by the way they are measured; none are not measured.",
            &[("sum by (instance, operation, mechanism) (prefault_sites{%host})", "")],
        ),
        panel(
            Kind::Lines,
            12,
            "The points' own time",
            "s",
            "What the points add to each latency of a prefault and of a copy, as measured at the start: a latency near it is \
             mostly theirs.",
            &[("max by (instance, points) (prefault_floor_seconds{%host})", "{{instance}} {{points}}")],
        ),
        panel(
            Kind::Table,
            12,
            "Kernels",
            "none",
            "What runs where.",
            &[("max by (instance, release) (prefault_kernel_info{%host})", "")],
        ),
        panel(
            Kind::Stat,
            6,
            "Filesystems counted together",
            "none",
            "Those beyond the limit of series, and those that found no slot, shown as other.",
            &[
                ("sum(prefault_series_over_limit{%host})", "no series"),
                ("sum(prefault_filesystems_without_slot{%host})", "no slot"),
            ],
        ),
        panel(
            Kind::Stat,
            6,
            "Writes that are timed",
            "percentunit",
            "Less than all with --sample; none with --no-latency.",
            &[("min(prefault_sampling_ratio{%host})", "timed")],
        ),
        panel(
            Kind::Lines,
            12,
            "Time that is counted",
            "percentunit",
            "Only with --max-overhead: all rates here are of what was counted, too low by more than this says; in gaps only calls are counted.",
            &[
                ("rate(prefault_counted_seconds_total{%host}[$__rate_interval])", "{{instance}}: everything"),
                ("rate(prefault_passed_seconds_total{%host}[$__rate_interval])", "{{instance}}: calls alone"),
            ],
        ),
    ],
};

/// All rows, from the top.
pub const ROWS: [Row; 6] = [OVERVIEW, PREFAULTS, COPIES, LATENCIES, PATHS, TOOL];
