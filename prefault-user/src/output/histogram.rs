//! Latency histograms drawn with characters.

use prefault_ebpf::N_BUCKETS;

use crate::data::{Bucket, Histogram, Quantiles as _};

use super::units;

/// Columns of the longest bar.
const BAR_WIDTH: u64 = 40;
/// More rows than this are too many to see at once; then buckets are merged to octaves.
const MAX_ROWS: usize = 24;
/// Buckets in an octave. Octaves end where the index is one below a multiple of this, at a power of two of seconds.
const PER_OCTAVE: usize = 4;
/// Empty rows in a row that are replaced by one.
const MIN_GAP: usize = 3;

/// One line of numbers: how many, mean, and quantiles. Just the name and `none` if there is no latency.
pub fn summary(name: &str, histogram: &Histogram) -> String {
    match numbers(histogram, 0) {
        Some(numbers) => format!("{name}: n {}, {numbers}\n", units::count(histogram.count())),
        None => format!("{name}: none\n"),
    }
}

/// The same without the `floor_ns` that the points themselves add to each; nothing if there is no latency.
fn less_the_floor(histogram: &Histogram, floor_ns: u64) -> String {
    let floor = units::duration(floor_ns as f64);
    let numbers = numbers(histogram, floor_ns);
    numbers.map_or_else(String::new, |numbers| format!("  less the probes' own {floor}: {numbers}\n"))
}

/// Mean and quantiles, each less `floor_ns`; `None` if there is no latency.
fn numbers(histogram: &Histogram, floor_ns: u64) -> Option<String> {
    let less = |ns: f64| units::duration((ns - floor_ns as f64).max(0.0));
    let quantile = |q| histogram.quantile(q).map(less);
    let (mean, p50, p90, p99) = (less(histogram.mean_ns()?), quantile(0.5)?, quantile(0.9)?, quantile(0.99)?);
    Some(format!("mean {mean}, p50 {p50}, p90 {p90}, p99 {p99}"))
}

/// The summary, and one row per bucket from the first to the last that is not empty; no rows if all are empty.
///
/// A bucket that is not empty has a bar, however short. With `floor_ns` the numbers are said again without it.
pub fn histogram(name: &str, histogram: &Histogram, floor_ns: Option<u64>) -> String {
    let mut text = summary(name, histogram);
    if let Some(floor_ns) = floor_ns {
        text.push_str(&less_the_floor(histogram, floor_ns));
    }
    let rows = rows(histogram);
    let highest = rows.iter().map(|row| row.count).max().unwrap_or(0);
    let count_width = units::count(highest).len();
    for gap_or_row in rows.chunk_by(|row, next| row.count == 0 && next.count == 0) {
        if gap_or_row.len() >= MIN_GAP {
            text.push_str(&format!("{:>12}\n", "..."));
            continue;
        }
        for row in gap_or_row {
            let bar = "#".repeat(bar_width(row.count, highest));
            let count = units::count(row.count);
            let line = format!("{}  {count:>count_width$}  {bar}", range(row));
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn bar_width(count: u64, highest: u64) -> usize {
    let width = units::fraction(count, highest).map_or(0.0, |fraction| fraction * BAR_WIDTH as f64).round() as usize;
    width.max(usize::from(count > 0))
}

fn range(bucket: &Bucket) -> String {
    let lower = units::duration(bucket.lower_ns as f64);
    let upper = bucket.upper_ns.map_or_else(|| "longer".to_owned(), |upper_ns| units::duration(upper_ns as f64));
    format!("{lower:>9} .. {upper:>7}")
}

/// Buckets from the first to the last that is not empty, or the octaves that hold them.
fn rows(histogram: &Histogram) -> Vec<Bucket> {
    let non_empty = |index: &usize| histogram.counts[*index] > 0;
    let (Some(first), Some(last)) = ((0..N_BUCKETS).find(non_empty), (0..N_BUCKETS).rfind(non_empty)) else {
        return Vec::new();
    };
    if last - first < MAX_ROWS {
        return (first..=last).map(|index| histogram.bucket(index)).collect();
    }
    let octave = |octave: usize| {
        let (begin, end) = (octave * PER_OCTAVE, (octave + 1) * PER_OCTAVE);
        Bucket {
            lower_ns: histogram.bucket(begin).lower_ns,
            upper_ns: histogram.bucket(end - 1).upper_ns,
            count: histogram.counts[begin..end].iter().sum(),
        }
    };
    (first / PER_OCTAVE..=last / PER_OCTAVE).map(octave).collect()
}

#[cfg(test)]
mod tests {
    use prefault_ebpf::bucket_of;

    use super::*;

    fn of(latencies: &[(u64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for (ns, count) in latencies {
            histogram.counts[bucket_of(*ns)] += count;
            histogram.sum_ns += ns * count;
        }
        histogram
    }

    #[test]
    fn an_empty_histogram_is_one_line() {
        assert_eq!(histogram("copy", &Histogram::default(), Some(90)), "copy: none\n");
    }

    #[test]
    fn octaves_end_at_powers_of_two_of_seconds() {
        let bounds: Vec<f64> = (0..N_BUCKETS / PER_OCTAVE - 1)
            .map(|octave| of(&[]).bucket(octave * PER_OCTAVE + PER_OCTAVE - 1).upper_ns.expect("bounded") as f64 / 1e9)
            .collect();
        for (bound, expected) in bounds.iter().zip((0..).map(|octave| 2f64.powi(octave - 25))) {
            assert!((bound / expected - 1.0).abs() < 0.05, "{bound} {expected}");
        }
        assert!(bounds.contains(&1.0) && bounds.contains(&0.5) && bounds.contains(&16.0));
    }

    #[test]
    fn every_latency_is_in_a_row_and_rows_meet() {
        for latencies in
            [&[(5, 1)][..], &[(100, 3), (300, 2)], &[(3, 1), (1 << 60, 1)], &[(100, 5), (90_000, 1), (2_000_000, 9)]]
        {
            let histogram = of(latencies);
            let rows = rows(&histogram);
            assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), histogram.count());
            assert!(rows.windows(2).all(|pair| pair[0].upper_ns == Some(pair[1].lower_ns)));
            assert!(rows.len() <= N_BUCKETS / PER_OCTAVE);
        }
    }

    #[test]
    fn bars_are_at_most_40_columns_and_never_absent_for_a_count() {
        for (count, highest, width) in [(0, 0, 0), (0, 9, 0), (1, 1_000_000, 1), (9, 9, 40), (50, 100, 20)] {
            assert_eq!(bar_width(count, highest), width);
        }
    }

    #[test]
    fn a_long_gap_is_one_row() {
        let text = histogram("copy", &of(&[(100, 50), (1000, 1)]), None);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(text.lines().nth(2).map(str::trim), Some("..."));
    }
}
