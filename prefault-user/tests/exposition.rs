//! Golden tests of what the exporter answers, and docs/metrics.md against it, both ways.
//!
//! `UPDATE_GOLDEN=1 cargo test -p prefault-user --test exposition` rewrites the files; the difference is to be reviewed.

#[path = "output/exported.rs"]
mod exported;
mod golden;
#[path = "output/snapshots.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod snapshots;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use prefault_ebpf::{EventKind, Histogram, Ledger};
use prefault_user::{
    data::{EventRecord, Exemplar, Exported, LossReport, LossUnit, Series},
    output::{
        exposition::{self, Buckets, FAMILIES},
        page,
    },
};
use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
use prost::Message as _;

fn check(name: &str, actual: &str) {
    golden::check(&format!("output/{name}"), actual);
}

fn all() -> Arc<Exported> {
    Arc::new(exported::exported(&snapshots::end(), None))
}

#[test]
fn openmetrics_of_many_filesystems() {
    let text = exposition::openmetrics(&all(), &Buckets::default()).expect("encoded");
    check("metrics.openmetrics", &text);
}

/// What there is with an event of each kind on tmpfs.
fn with_exemplars() -> Arc<Exported> {
    let event = |kind, done| EventRecord {
        timestamp_ns: 1,
        kind,
        pid: 4711,
        tid: 4712,
        comm: "a\"b\\c".to_owned(),
        fstype: "tmpfs".to_owned(),
        device: "tmpfs".to_owned(),
        inode: u64::MAX,
        position: 8192,
        asked: 4096,
        done,
        user_address: None,
        path: "generic_perform_write".to_owned(),
    };
    let kinds = [EventKind::ShortCopy, EventKind::FailedPrefault];
    let events = kinds.into_iter().flat_map(|kind| [event(kind, 0), event(kind, 100)]);
    let exemplars = events.map(|event| Exemplar { unix_ns: 1_790_000_002_500_000_000, event }).collect();
    Arc::new(Exported { exemplars, ..exported::exported(&snapshots::end(), None) })
}

#[test]
fn exemplars_are_at_the_counters_that_have_counted_them() {
    let exported = with_exemplars();
    let text = exposition::openmetrics(&exported, &Buckets::default()).expect("encoded");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" # {")).collect();
    let labels = "comm=\"a\\\"b\\\\c\",pid=\"4711\",inode=\"18446744073709551615\",position=\"8192\"";
    assert!(!lines.is_empty());
    for line in lines {
        let (sample, exemplar) = line.split_once(" # ").expect("it has one");
        assert_eq!(exemplar, format!("{{{labels}}} 1.0 1790000002.5"));
        let counted = ["prefault_copies_short_total{", "prefault_prefaults_failed_total{"];
        assert!(counted.iter().any(|name| sample.starts_with(name)) && sample.contains("fstype=\"tmpfs\""), "{line}");
        assert!(!sample.ends_with(" 0"), "{line}");
    }
    // Of samples it changes nothing, and the older format has none.
    let without: String =
        text.lines().map(|line| line.split(" # {").next().unwrap_or_default().to_owned() + "\n").collect();
    assert_eq!(without, exposition::openmetrics(&all(), &Buckets::default()).expect("encoded"));
    let plain = |exported| exposition::text(exported, &Buckets::default()).expect("encoded");
    assert_eq!(plain(&exported), plain(&all()));
}

#[test]
fn protobuf_has_the_exemplars_of_the_text() {
    let bytes = exposition::protobuf(&with_exemplars(), &Buckets::default()).expect("encoded");
    let mut rest = &bytes[..];
    let mut n_exemplars = 0;
    while !rest.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut rest).expect("well formed");
        for exemplar in family.metric.iter().filter_map(|metric| metric.counter.as_ref()?.exemplar.as_ref()) {
            let labels: Vec<(&str, &str)> = exemplar.label.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
            let position = ("position", "8192");
            assert_eq!(labels, [("comm", "a\"b\\c"), ("pid", "4711"), ("inode", "18446744073709551615"), position]);
            assert_eq!(exemplar.timestamp.as_ref().map(|time| time.seconds), Some(1_790_000_002));
            n_exemplars += 1;
        }
    }
    let text = exposition::openmetrics(&with_exemplars(), &Buckets::default()).expect("encoded");
    assert_eq!(n_exemplars, text.matches(" # {").count());
}

#[test]
fn text_of_many_filesystems() {
    let text = exposition::text(&all(), &Buckets::default()).expect("encoded");
    check("metrics.prom", &text);
}

#[test]
fn text_with_mount_points_and_few_buckets() {
    let buckets = Buckets::up_to(&[1_000, 1_000_000]).expect("ascending");
    let exported = exported::exported(&snapshots::begin(), Some("/srv \"data\"\\\n"));
    check("mount-points.prom", &exposition::text(&Arc::new(exported), &buckets).expect("encoded"));
}

#[test]
fn the_page_of_many_filesystems() {
    check("page.html", &page::page(&all()));
}

#[test]
fn protobuf_says_what_the_text_says_and_has_native_histograms() {
    let exported = all();
    let bytes = exposition::protobuf(&exported, &Buckets::default()).expect("encoded");
    let mut rest = &bytes[..];
    let mut families = BTreeMap::new();
    while !rest.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut rest).expect("a message");
        families.insert(family.name.clone(), family);
    }
    let text = exposition::text(&exported, &Buckets::default()).expect("encoded");
    let in_text: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(families.keys().map(String::as_str).collect::<Vec<_>>(), sorted(in_text));
    for operation in ["write", "prefault", "copy"] {
        let family = &families[&format!("prefault_{operation}_duration_seconds")];
        let of_operation = |of: &Series| -> Vec<Histogram> {
            let Ledger { write, prefault, copy } = &of.totals.ledger;
            match operation {
                "write" => vec![write.latency],
                "prefault" => vec![prefault.latency_needed, prefault.latency_not_needed],
                _ => vec![copy.latency],
            }
        };
        let own: Vec<Histogram> = exported.filesystems.iter().flat_map(of_operation).collect();
        assert_eq!(family.metric.len(), own.len());
        for (metric, own) in family.metric.iter().zip(&own) {
            let histogram = metric.histogram.as_ref().expect("a histogram");
            assert_eq!((histogram.schema, histogram.sample_count), (2, own.count()));
            assert_eq!(native_counts(&histogram.positive_span, &histogram.positive_delta), own_counts(own));
            assert_eq!(histogram.bucket.last().map(|bucket| bucket.cumulative_count), Some(own.count()));
        }
    }
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

/// Count by index of schema 2, as the specification says to read spans and deltas.
fn native_counts(
    spans: &[prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::BucketSpan],
    deltas: &[i64],
) -> BTreeMap<i32, i64> {
    let mut counts = BTreeMap::new();
    let (mut index, mut count) = (0, 0);
    let mut deltas = deltas.iter();
    for span in spans {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().expect("a delta for each bucket");
            counts.insert(index, count);
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    counts
}

fn own_counts(histogram: &Histogram) -> BTreeMap<i32, i64> {
    let counts = (-103..).zip(&histogram.counts).filter(|(_, count)| **count > 0);
    counts.map(|(index, &count)| (index, count as i64)).collect()
}

fn metrics_md() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md"))
        .expect("docs/metrics.md is there")
}

#[test]
fn metrics_md_has_a_row_for_every_metric_and_no_other() {
    let text = metrics_md();
    let rows: BTreeSet<[String; 3]> = text
        .lines()
        .filter(|line| line.starts_with("| `prefault_") || line.starts_with("| `process_"))
        .map(|line| line.split(" | ").map(|cell| cell.trim_matches(['|', ' ']).to_owned()).collect::<Vec<_>>())
        .map(|cells| [0, 1, 2].map(|cell| cells[cell].clone()))
        .collect();
    let expected: BTreeSet<[String; 3]> = FAMILIES
        .iter()
        .map(|family| {
            let labels: Vec<String> = family.labels().iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", family.kind()).to_lowercase();
            [format!("`{}`", family.name), kind, labels.join(", ")]
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn metrics_md_lists_every_cause_of_loss() {
    let text = metrics_md();
    for entry in LossReport::default().entries().filter(|entry| entry.unit == LossUnit::Times) {
        assert!(text.contains(&format!("`{}`", entry.key)), "docs/metrics.md does not name {}", entry.key);
    }
}

#[test]
fn every_label_value_of_the_exposition_is_described() {
    let text = metrics_md();
    let exported = all();
    let of_tables = ["kind", "needed", "error", "mode", "cause", "points", "mechanism", "operation"];
    let mut n_values = 0;
    for sample in FAMILIES.iter().flat_map(|family| family.samples(&exported)) {
        for (label, value) in sample.labels.iter().filter(|(label, _)| of_tables.contains(label)) {
            assert!(
                text.contains(&format!("`{value}`")),
                "docs/metrics.md does not name {value}, of the label {label}"
            );
            n_values += 1;
        }
    }
    assert!(n_values > 50, "{n_values}");
}
