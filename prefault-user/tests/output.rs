//! Golden tests of the outputs: hand-made snapshots that look like real ones, rendered and compared with files.
//!
//! `UPDATE_GOLDEN=1 cargo test -p prefault-user --test output` rewrites the files; the difference is to be reviewed.

mod golden;
#[path = "output/snapshots.rs"]
mod snapshots;

use prefault_user::data::{Interval, Report, Timing};
use prefault_user::output::{event, json, report, table};
use table::{Layout, Scale};

fn check(name: &str, actual: &str) {
    golden::check(&format!("output/{name}"), actual);
}

fn interval_of_all() -> Interval {
    Interval::between(&snapshots::begin(), &snapshots::end(), &snapshots::PATH_NAMES).expect("in order")
}

fn eager_report() -> Report {
    let mut interval = interval_of_all();
    interval.filesystems.truncate(1);
    interval.loss = Default::default();
    Report {
        kernel: "6.12.38+deb13-amd64".to_owned(),
        interval,
        timing: Timing::All,
        limited: None,
        floor: snapshots::floor(),
        sites: snapshots::sites(),
        events: Vec::new(),
    }
}

fn limited_report() -> Report {
    Report { limited: Some(snapshots::limited()), ..eager_report() }
}

fn report_of_all() -> Report {
    Report {
        kernel: "6.18.0-1-amd64".to_owned(),
        interval: interval_of_all(),
        timing: Timing::All,
        limited: None,
        floor: snapshots::floor(),
        sites: snapshots::sites(),
        events: snapshots::events(),
    }
}

fn idle_report() -> Report {
    let interval = Interval::between(&snapshots::end(), &snapshots::end(), &snapshots::PATH_NAMES).expect("in order");
    Report {
        kernel: "6.1.0-37-amd64".to_owned(),
        interval,
        timing: Timing::All,
        limited: None,
        floor: snapshots::floor(),
        sites: Vec::new(),
        events: Vec::new(),
    }
}

#[test]
fn the_report_of_one_eager_filesystem() {
    check("eager.txt", &report::report(&eager_report()));
}

#[test]
fn the_report_of_a_measurement_with_a_limit() {
    check("limited.txt", &report::report(&limited_report()));
    check("limited.json", &json::document(&limited_report()).expect("serialisable"));
}

#[test]
fn the_report_of_many_filesystems_with_losses() {
    check("all.txt", &report::report(&report_of_all()));
}

#[test]
fn the_report_of_an_idle_interval() {
    check("idle.txt", &report::report(&idle_report()));
}

#[test]
fn the_document_of_many_filesystems_with_losses() {
    let document = json::document(&report_of_all()).expect("serialisable");
    check("all.json", &document);
    let value: serde_json::Value = serde_json::from_str(&document).expect("valid");
    for filesystem in value["filesystems"].as_array().expect("an array") {
        for operation in ["write", "prefault", "copy"] {
            let operation = &filesystem[operation];
            let buckets = operation["buckets"].as_array().expect("an array");
            let in_buckets: u64 = buckets.iter().map(|bucket| bucket["count"].as_u64().expect("a count")).sum();
            let user_calls = operation["calls"].as_u64().zip(operation["kernel_calls"].as_u64());
            assert_eq!(Some(in_buckets), user_calls.map(|(calls, kernel_calls)| calls - kernel_calls));
        }
    }
}

#[test]
fn the_document_of_an_idle_interval() {
    check("idle.json", &json::document(&idle_report()).expect("serialisable"));
}

#[test]
fn the_live_table_of_three_intervals() {
    let snapshots = [snapshots::begin(), snapshots::middle(), snapshots::end(), snapshots::end()];
    let mut layout = Layout::new(Scale::PerSecond);
    let mut text = String::new();
    for pair in snapshots.windows(2) {
        let interval = Interval::between(&pair[0], &pair[1], &snapshots::PATH_NAMES).expect("in order");
        if layout.fit(&interval) || text.is_empty() {
            text.push_str(&layout.header());
        }
        text.push_str(&layout.rows(&interval));
    }
    check("live.txt", &text);
}

#[test]
fn the_report_says_which_writes_were_timed() {
    let sampled = Report { timing: Timing::OneIn(1000), ..eager_report() };
    assert!(report::report(&sampled).contains("One write in 1,000 was timed, chosen at random; all are counted."));
    let untimed = report::report(&Report { timing: Timing::None, ..eager_report() });
    assert!(untimed.contains("No write was timed; all are counted.") && !untimed.contains("p99"), "{untimed}");
}

#[test]
fn no_line_of_text_is_wider_than_120_columns() {
    for report in [eager_report(), report_of_all(), idle_report()] {
        for line in report::report(&report).lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}

#[test]
fn events_are_lines() {
    let lines: String = snapshots::events().iter().map(event::line).collect();
    check("events.txt", &lines);
}
