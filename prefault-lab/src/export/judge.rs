//! What PromQL has to say after each part of the load.

use std::{collections::BTreeMap, io::Write as _, path::Path, process::Command, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{http, prometheus::Prometheus};
use crate::{cases::export::losses, guest::Said, paths, process, prometheus, truth::Truth};

/// From the end of the load to the scrape that has all of it; a scrape under emulation may take a second.
const LIMIT: Duration = Duration::from_secs(30);
const PAGE: u64 = 4096;
const HISTOGRAMS: [&str; 3] = ["write", "prefault", "copy"];
/// Native buckets end at powers of 2, classic ones at the whole nanosecond below.
const TOLERANCE: f64 = 0.01;
const QUANTILES: [f64; 4] = [0.1, 0.5, 0.9, 0.99];

/// What is to be counted on one filesystem.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    writes: u64,
    bytes: u64,
    errors: u64,
    absent: u64,
}

/// Judges what guest and host left.
///
/// # Errors
/// Saying what is wrong.
pub fn judge(said: &Said) -> Result<()> {
    let host = said.file("host")?;
    ensure!(host == "done", "{host}\n{}", said.file("log").unwrap_or_default());
    said.expect_code(0)
}

/// Compares what the servers say with what the load has done so far.
///
/// # Errors
/// Saying what differs.
pub fn after_round(step: &Path, port: u16, round: usize, classic: &Prometheus, native: &Prometheus) -> Result<()> {
    let expected = expected(step, round)?;
    for server in [classic, native] {
        counters(server, &expected).with_context(|| lost(port))?;
        // Of events there are none, and a write under way when measuring began is no loss of this load.
        server.wait_for("sum(prefault_loss_total{cause!=\"before_start\"})", 0.0, LIMIT)?;
        server.wait_for("sum(prefault_uncopied_bytes_total)", 0.0, LIMIT)?;
        exemplars(server)?;
        if round > 1 {
            rates(server, &expected, |function, fstype| {
                format!("sum({function}(prefault_writes_total{{fstype=\"{fstype}\"}}[5m]))")
            })?;
        }
    }
    if round > 1 {
        rates(native, &expected, |function, fstype| {
            format!("histogram_count(sum({function}(prefault_write_duration_seconds{{fstype=\"{fstype}\"}}[5m])))")
        })?;
    }
    let text = http::get(port, "/metrics")?;
    histograms(expected.keys(), &text, classic, native)?;
    check_metrics(&text)?;
    compressed(port)?;
    let page = http::get(port, "/")?;
    for part in ["<!DOCTYPE html>", "ext4 on ram0", "tmpfs", "Loss"] {
        ensure!(page.contains(part), "expected {part:?} in the start page\n{page}");
    }
    paths::write(&paths::target("prometheus/page.html"), page)
}

/// Each filesystem's counters are what the load has done to it.
fn counters(server: &Prometheus, expected: &BTreeMap<String, Expected>) -> Result<()> {
    for (fstype, expected) in expected {
        for (metric, value) in [
            ("writes_total", expected.writes),
            ("write_bytes_total", expected.bytes),
            ("writes_failed_total", expected.errors),
            ("prefault_page_faults_total", expected.absent),
        ] {
            let of = format!("sum(prefault_{metric}{{fstype=\"{fstype}\"}})");
            server.wait_for(&of, value as f64, LIMIT)?;
        }
    }
    Ok(())
}

/// What the exporter says was missed, to be said beside what differs.
fn lost(port: u16) -> String {
    match http::get(port, "/metrics") {
        Ok(metrics) => format!("lost: {:?}", losses(&metrics).collect::<Vec<_>>()),
        Err(error) => format!("lost: {error:#}"),
    }
}

/// Who wrote where is known of what failed.
fn exemplars(server: &Prometheus) -> Result<()> {
    let selector = "{__name__=~\"prefault_copies_short_total|prefault_prefaults_failed_total\",fstype=\"ramfs\"}";
    let exemplars = server.exemplars(selector)?;
    ensure!(!exemplars.is_empty(), "there is no exemplar");
    for labels in &exemplars {
        let label = |name| labels.get(name).and_then(Value::as_str).unwrap_or_default();
        let numbers = ["pid", "inode", "position"].map(|name| label(name).parse::<u64>().unwrap_or(0));
        // The first write is at position 0, and the second of its two pages cannot be read.
        let is_right =
            label("comm") == "workload" && numbers[0] > 1 && numbers[1] > 0 && numbers[2].is_multiple_of(PAGE);
        ensure!(is_right, "expected an exemplar of the workload, got {labels}");
    }
    Ok(())
}

/// Sums of all rounds by filesystem type.
fn expected(step: &Path, rounds: usize) -> Result<BTreeMap<String, Expected>> {
    let mut sums: BTreeMap<String, Expected> = BTreeMap::new();
    for round in 1..=rounds {
        let text = std::fs::read_to_string(step.join(format!("truth-{round}"))).context("failed to read the truth")?;
        for line in text.lines() {
            let truth: Truth = serde_json::from_str(line).context("failed to read what the workload said")?;
            ensure!(truth.failure.is_none(), "the workload failed: {truth:?}");
            // The directories are named after the types.
            let fstype = truth.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let sum = sums.entry(fstype).or_default();
            sum.writes += truth.writes;
            sum.bytes += truth.bytes;
            sum.errors += truth.errors;
            sum.absent += truth.absent_pages;
        }
    }
    Ok(sums)
}

/// The second part of the load has begun from known counters, so that rate and increase have a begin and an end. They
/// extrapolate, by at most an interval at each side. `of` is what asks for the result of one of the two.
fn rates(server: &Prometheus, expected: &BTreeMap<String, Expected>, of: impl Fn(&str, &str) -> String) -> Result<()> {
    for (fstype, expected) in expected {
        let [increase_of, rate_of] = ["increase", "rate"].map(|function| of(function, fstype));
        let increase = server.value(&increase_of)?;
        let half = expected.writes as f64 / 2.0;
        ensure!(
            increase >= 0.9 * half && increase <= 2.6 * half,
            "{increase_of} is {increase}, expected about {half} to {}",
            2.0 * half
        );
        // In one question: the two are extrapolated to the moment at which they are asked for.
        let quotient = server.value(&format!("{increase_of} / {rate_of}"))?;
        ensure!((quotient - 300.0).abs() < 0.01, "increase is {quotient} times the rate, expected 300");
    }
    Ok(())
}

/// Native and classic histograms have the same counts and sums, and a quantile of either is in the classic bucket that holds
/// its rank. Nothing is written meanwhile, so that `text`, what the exporter answers, is what the servers have.
fn histograms<'a>(
    fstypes: impl Iterator<Item = &'a String>,
    text: &str,
    classic: &Prometheus,
    native: &Prometheus,
) -> Result<()> {
    for fstype in fstypes {
        for operation in HISTOGRAMS {
            let name = format!("prefault_{operation}_duration_seconds");
            let of = |suffix: &str| format!("sum({name}{suffix}{{fstype=\"{fstype}\"}})");
            let buckets = buckets(text, &name, fstype);
            let count = buckets.last().with_context(|| format!("no {name} of {fstype}"))?.1;
            classic.wait_for(&of("_count"), count, LIMIT)?;
            native.wait_for(&format!("histogram_count({})", of("")), count, LIMIT)?;
            let sum = classic.value(&of("_sum"))?;
            let native_sum = native.value(&format!("histogram_sum({})", of("")))?;
            ensure!((sum - native_sum).abs() <= TOLERANCE * sum, "{name} of {fstype}: sums {sum} and {native_sum}");
            // A path that prefaults on demand may have had no need to.
            for q in QUANTILES.into_iter().filter(|_| count > 0.0) {
                let (lower, upper) = bucket_of(&buckets, q * count);
                let of_buckets = format!("sum by (le) ({name}_bucket{{fstype=\"{fstype}\"}})");
                let from_classic = classic.value(&format!("histogram_quantile({q}, {of_buckets})"))?;
                let from_native = native.value(&format!("histogram_quantile({q}, {})", of("")))?;
                for value in [from_classic, from_native] {
                    ensure!(
                        value >= lower * (1.0 - TOLERANCE) && value <= upper * (1.0 + TOLERANCE),
                        "{name} of {fstype}: quantile {q} is {from_classic} and {from_native}, expected {lower} to {upper}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Upper bound and cumulative count of each classic bucket of one filesystem type, of all its series together.
fn buckets(text: &str, name: &str, fstype: &str) -> Vec<(f64, f64)> {
    let start = format!("{name}_bucket{{le=\"");
    let label = format!("fstype=\"{fstype}\"");
    let of_line = |line: &str| {
        let (bound, rest) = line.strip_prefix(&start)?.split_once('"')?;
        let (_, count) = rest.rsplit_once(' ').filter(|(labels, _)| labels.contains(&label))?;
        Some((bound.parse().ok()?, count.parse().ok()?))
    };
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (bound, count) in text.lines().filter_map(of_line) {
        match buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((bound, count)),
        }
    }
    buckets
}

/// Bounds of the bucket that holds a rank.
fn bucket_of(buckets: &[(f64, f64)], rank: f64) -> (f64, f64) {
    let mut lower = 0.0;
    for &(upper, count) in buckets {
        if count >= rank {
            return (lower, upper);
        }
        lower = upper;
    }
    (lower, f64::INFINITY)
}

/// curl gets the same, compressed.
fn compressed(port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let curl = |arguments: &[&str]| {
        let common = ["--silent", "--show-error", "--fail", "--max-time", "30"];
        process::output(Command::new("curl").args(common).args(arguments).arg(&url))
    };
    let counters = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("prefault_writes_total{"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (plain, packed) = (curl(&[])?, curl(&["--compressed"])?);
    ensure!(!counters(&plain).is_empty() && counters(&plain) == counters(&packed), "compressed:\n{packed}\n{plain}");
    const SIZE: [&str; 4] = ["--output", "/dev/null", "--write-out", "%{size_download}"];
    let size = |more: &[&str]| -> Result<u64> { Ok(curl(&[&SIZE, more].concat())?.trim().parse()?) };
    let (plain, packed) = (size(&[])?, size(&["--compressed"])?);
    ensure!(packed < plain / 4, "{packed} bytes are taken of {plain}");
    Ok(())
}

/// What Debian's promtool says of the metrics.
fn check_metrics(text: &str) -> Result<()> {
    let mut command = Command::new(prometheus::program("promtool")?);
    let mut child = command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start promtool")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).context("failed to give promtool the metrics")?;
    }
    let output = child.wait_with_output().context("failed to wait for promtool")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {}", process::last_lines(&said, 20, "\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_read_and_ranks_found() {
        let text = "a_bucket{le=\"0.5\",fstype=\"x\",device=\"d\"} 3\na_bucket{le=\"+Inf\",fstype=\"x\"} 4\n\
                    a_bucket{le=\"+Inf\",fstype=\"y\"} 9\na_count{fstype=\"x\"} 4\n";
        let buckets = buckets(text, "a", "x");
        assert_eq!(buckets, [(0.5, 3.0), (f64::INFINITY, 4.0)]);
        assert_eq!(bucket_of(&buckets, 3.0), (0.0, 0.5));
        assert_eq!(bucket_of(&buckets, 3.5), (0.5, f64::INFINITY));
    }
}
