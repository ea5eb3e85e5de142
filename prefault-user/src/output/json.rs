//! The JSON document of a measurement: what was counted, in base units, with nothing formatted, and nothing derived but sums of its
//! own fields.
//!
//! Fields are those of docs/format.md. What is absent is null and never 0; every loss counter is present, zero or not.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use prefault_ebpf::{CopyLedger, Histogram, Ledger, PathLedger, PrefaultLedger, WriteLedger};

use crate::data::{
    Estimate, EventRecord, FilesystemEstimates, FilesystemInterval, Floor, LossReport, Mechanism, Operation,
    OverheadReport, PathStats, Points, QUANTITIES, Report, SiteReport,
};

/// Version of the format: it grows when a field is removed, renamed, or given another meaning or unit.
pub const FORMAT_VERSION: u32 = 1;

/// The document as indented text, ended by a newline.
///
/// # Errors
/// Only if serde_json fails, which no report is known to make it do.
pub fn document(report: &Report) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(&Document::from(report))? + "\n")
}

/// The document on a line of its own, as one of several (<https://jsonlines.org>).
///
/// # Errors
/// As [`document`].
pub fn line(report: &Report) -> serde_json::Result<String> {
    Ok(serde_json::to_string(&Document::from(report))? + "\n")
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: u32,
    kernel: &'a str,
    duration_ns: u64,
    timed_one_in: Option<u32>,
    clock_step_ns: Option<u64>,
    floor: Option<FloorOf>,
    filesystems: Vec<Filesystem<'a>>,
    sites: Vec<Site<'a>>,
    #[serde(serialize_with = "loss")]
    loss: &'a LossReport,
    own_cost: Option<OwnCostOf>,
    limit: Option<LimitOf<'a>>,
    events: Vec<Event<'a>>,
}

#[derive(Serialize)]
struct FloorOf {
    jump_ns: Option<u64>,
    trap_ns: Option<u64>,
}

#[derive(Serialize)]
struct OwnCostOf {
    runs: u64,
    run_ns: u64,
    share_of_cpu: Option<f64>,
}

#[derive(Serialize)]
struct LimitOf<'a> {
    percent: f64,
    processors: u32,
    cost_ns: u64,
    cost_share: f64,
    open_ns: u64,
    open_share: f64,
    counted_gap_share: f64,
    windows: u64,
    timed_one_in: Option<u32>,
    given_up: u64,
    estimates: Vec<EstimatesOf<'a>>,
}

/// Estimates of one filesystem, an object for each quantity.
#[derive(Serialize)]
struct EstimatesOf<'a> {
    fstype: &'a str,
    device: &'a str,
    #[serde(flatten)]
    quantities: BTreeMap<&'static str, EstimateOf>,
}

#[derive(Serialize)]
struct EstimateOf {
    total: f64,
    standard_error: Option<f64>,
}

#[derive(Serialize)]
struct Filesystem<'a> {
    fstype: &'a str,
    device: &'a str,
    major: u32,
    minor: u32,
    paths: Vec<Path<'a>>,
    write: &'a WriteLedger,
    prefault: Prefault<'a>,
    copy: &'a CopyLedger,
}

#[derive(Serialize)]
struct Path<'a> {
    function: &'a str,
    mode: &'static str,
    calls: u64,
    not_returned: u64,
    prefaults: u64,
    copies: u64,
}

/// The ledger, and what is said of it besides.
#[derive(Serialize)]
struct Prefault<'a> {
    #[serde(flatten)]
    ledger: &'a PrefaultLedger,
    failed: u64,
    #[serde(flatten)]
    latency: Histogram,
}

#[derive(Serialize)]
struct Site<'a> {
    caller: &'a str,
    offset: u64,
    target: &'a str,
    operation: Operation,
    module: Option<&'a str>,
    paths: &'a [String],
    attached: bool,
    mechanism: Option<Mechanism>,
    points: Option<&'static str>,
    why_not: Option<&'a str>,
    unattributed: bool,
}

#[derive(Serialize)]
struct Event<'a> {
    timestamp_ns: u64,
    kind: &'static str,
    pid: u32,
    tid: u32,
    comm: &'a str,
    fstype: &'a str,
    device: &'a str,
    inode: u64,
    position: u64,
    asked: u64,
    done: u64,
    user_address: Option<String>,
    path: &'a str,
}

impl<'a> From<&'a Report> for Document<'a> {
    fn from(report: &'a Report) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            kernel: &report.kernel,
            duration_ns: report.interval.duration_ns,
            timed_one_in: report.timing.one_in(),
            clock_step_ns: report.timing.coarse_step_ns(),
            floor: report.floor.map(|Floor { jump_ns, trap_ns }| FloorOf { jump_ns, trap_ns }),
            filesystems: report.interval.filesystems.iter().map(Filesystem::from).collect(),
            sites: report.sites.iter().map(Site::from).collect(),
            loss: &report.interval.loss,
            own_cost: report.interval.own_cost.map(|own_cost| OwnCostOf {
                runs: own_cost.runs,
                run_ns: own_cost.run_ns,
                share_of_cpu: own_cost.share_of_cpu(report.interval.duration_ns),
            }),
            limit: report.limited.as_ref().map(LimitOf::from),
            events: report.events.iter().map(Event::from).collect(),
        }
    }
}

impl<'a> From<&'a OverheadReport> for LimitOf<'a> {
    fn from(limited: &'a OverheadReport) -> Self {
        let OverheadReport {
            limit,
            cost_ns,
            cost_share,
            open_ns,
            open_share,
            passed_ns: _,
            counted_gap_share,
            windows,
            timed_one_in,
            given_up,
            estimates,
        } = limited;
        Self {
            percent: limit.percent,
            processors: limit.n_processors,
            cost_ns: *cost_ns as u64,
            cost_share: *cost_share,
            open_ns: *open_ns,
            open_share: *open_share,
            counted_gap_share: *counted_gap_share,
            windows: *windows,
            timed_one_in: *timed_one_in,
            given_up: *given_up,
            estimates: estimates.iter().map(EstimatesOf::from).collect(),
        }
    }
}

impl<'a> From<&'a FilesystemEstimates> for EstimatesOf<'a> {
    fn from(of: &'a FilesystemEstimates) -> Self {
        let estimate = |&Estimate { total, standard_error }: &Estimate| EstimateOf { total, standard_error };
        Self {
            fstype: &of.identity.fstype,
            device: &of.identity.device,
            quantities: QUANTITIES.into_iter().zip(of.estimates.iter().map(estimate)).collect(),
        }
    }
}

impl<'a> From<&'a FilesystemInterval> for Filesystem<'a> {
    fn from(filesystem: &'a FilesystemInterval) -> Self {
        let FilesystemInterval { identity, ledger: Ledger { write, prefault, copy }, .. } = filesystem;
        Self {
            fstype: &identity.fstype,
            device: &identity.device,
            major: identity.major,
            minor: identity.minor,
            paths: filesystem.active_paths().map(Path::from).collect(),
            write,
            prefault: Prefault { ledger: prefault, failed: prefault.failed(), latency: prefault.latency() },
            copy,
        }
    }
}

impl<'a> From<&'a PathStats> for Path<'a> {
    fn from(path: &'a PathStats) -> Self {
        let PathLedger { calls, prefaults, copies, .. } = path.ledger;
        Self {
            function: &path.function,
            mode: path.mode().name(),
            calls,
            not_returned: path.ledger.not_returned(),
            prefaults,
            copies,
        }
    }
}

impl<'a> From<&'a SiteReport> for Site<'a> {
    fn from(site: &'a SiteReport) -> Self {
        Self {
            caller: &site.caller,
            offset: site.offset,
            target: &site.target,
            operation: site.operation,
            module: site.module.as_deref(),
            paths: &site.paths,
            attached: site.attached,
            mechanism: site.mechanism,
            points: site.points.map(Points::name),
            why_not: site.why_not.as_deref(),
            unattributed: site.unattributed,
        }
    }
}

impl<'a> From<&'a EventRecord> for Event<'a> {
    fn from(event: &'a EventRecord) -> Self {
        Self {
            timestamp_ns: event.timestamp_ns,
            kind: event.kind_name(),
            pid: event.pid,
            tid: event.tid,
            comm: &event.comm,
            fstype: &event.fstype,
            device: &event.device,
            inode: event.inode,
            position: event.position,
            asked: event.asked,
            done: event.done,
            // Not a number: JavaScript's cannot hold 64 bits.
            user_address: event.user_address.map(|address| format!("{address:#x}")),
            path: &event.path,
        }
    }
}

fn loss<S: Serializer>(loss: &LossReport, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for entry in loss.entries() {
        map.serialize_entry(entry.key, &entry.count)?;
    }
    map.end()
}
