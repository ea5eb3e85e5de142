//! The table of an interval: one row per filesystem that was written to, at most 120 columns.
//!
//! The header is separate from the rows, so that a live view can repeat it when it likes. Widths are kept between
//! intervals and grow with what they have to hold.

use prefault_ebpf::Ledger;

use crate::data::{FilesystemInterval, Histogram, Interval, Quantiles as _};

use super::units;

/// What is said of an interval in which nothing was counted.
pub const NOTHING: &str = "no buffered writes\n";

/// What the columns mean that do not say it themselves.
pub const LEGEND: &str = "\
NEEDED: took a page fault; SHORT: copied less than asked; their % is of the calls on user memory.
%TIME: time in prefaults as a share of the time in writes. MEDIAN: half of the calls took no longer;
IDLE: prefaults that took no page fault, FAULT: those that did.\n";

/// What writes and bytes are shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// In total, for the end of a measurement.
    Total,
    /// Per second, for an interval of it. Everything else stays a count, most being rare.
    PerSecond,
}

/// One column.
struct Column {
    /// Index into [`GROUPS`], `None` for a column that stands alone.
    group: Option<usize>,
    title: &'static str,
    /// Title where writes and bytes are shown per second.
    title_per_second: &'static str,
    /// Width that its usual contents need.
    width: usize,
    left: bool,
}

const GROUPS: [&str; 3] = ["PREFAULTS", "COPIES", "MEDIAN"];

const fn text(title: &'static str, width: usize) -> Column {
    Column { group: None, title, title_per_second: title, width, left: true }
}

const fn number(group: Option<usize>, title: &'static str, width: usize) -> Column {
    Column { group, title, title_per_second: title, width, left: false }
}

const fn rate(title: &'static str, title_per_second: &'static str, width: usize) -> Column {
    Column { group: None, title, title_per_second, width, left: false }
}

const COLUMNS: [Column; 17] = [
    text("FSTYPE", 7),
    text("DEVICE", 6),
    rate("WRITES", "WRITES/s", 6),
    rate("BYTES", "BYTES/s", 7),
    number(None, "ERR", 3),
    number(Some(0), "CALLS", 6),
    number(Some(0), "NEEDED", 6),
    number(Some(0), "%", 5),
    number(Some(0), "FAIL", 5),
    number(Some(0), "%TIME", 5),
    number(Some(1), "CALLS", 6),
    number(Some(1), "SHORT", 5),
    number(Some(1), "%", 5),
    number(Some(2), "WRITE", 6),
    number(Some(2), "IDLE", 6),
    number(Some(2), "FAULT", 6),
    number(Some(2), "COPY", 6),
];

/// Widths of the columns and the meaning of writes and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    scale: Scale,
    widths: [usize; COLUMNS.len()],
}

impl Layout {
    /// The usual widths.
    pub fn new(scale: Scale) -> Self {
        let mut layout = Self { scale, widths: COLUMNS.map(|column| column.width) };
        for (width, column) in layout.widths.iter_mut().zip(&COLUMNS) {
            *width = (*width).max(column.title(scale).len());
        }
        layout
    }

    /// Widens columns to hold an interval; true if any had to be, so that a header shown before no longer fits.
    pub fn fit(&mut self, interval: &Interval) -> bool {
        let before = self.widths;
        for filesystem in interval.active() {
            for (width, cell) in self.widths.iter_mut().zip(cells(filesystem, interval.duration_ns, self.scale)) {
                *width = (*width).max(cell.chars().count());
            }
        }
        self.widths != before
    }

    /// The header: two lines.
    pub fn header(&self) -> String {
        let titles = COLUMNS.map(|column| column.title(self.scale).to_owned());
        format!("{}{}", self.group_line(), self.line(&titles))
    }

    /// The rows: one line for each filesystem that was written to, or [`NOTHING`].
    pub fn rows(&self, interval: &Interval) -> String {
        let rows: String = interval
            .active()
            .map(|filesystem| self.line(&cells(filesystem, interval.duration_ns, self.scale)))
            .collect();
        if rows.is_empty() { NOTHING.to_owned() } else { rows }
    }

    fn line(&self, cells: &[String; COLUMNS.len()]) -> String {
        let mut line = String::new();
        for (index, (column, cell)) in COLUMNS.iter().zip(cells).enumerate() {
            let width = self.widths[index];
            line.push_str(separator(index));
            line.push_str(&if column.left { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }

    fn group_line(&self) -> String {
        let mut line = String::new();
        let mut index = 0;
        while index < COLUMNS.len() {
            let group = COLUMNS[index].group;
            let n_columns = COLUMNS[index..].iter().take_while(|column| column.group == group).count();
            let range = index..index + n_columns;
            let width = self.widths[range.clone()].iter().sum::<usize>()
                + range.map(|column| separator(column).len()).sum::<usize>()
                - separator(index).len();
            line.push_str(separator(index));
            line.push_str(&match group {
                Some(group) => format!("{:-^width$}", format!(" {} ", GROUPS[group])),
                None => " ".repeat(width),
            });
            index += n_columns;
        }
        line.push('\n');
        line
    }
}

impl Column {
    fn title(&self, scale: Scale) -> &'static str {
        match scale {
            Scale::Total => self.title,
            Scale::PerSecond => self.title_per_second,
        }
    }
}

/// Header and rows of one interval, for where it is shown alone; just [`NOTHING`] if there is nothing to show.
pub fn table(interval: &Interval, scale: Scale) -> String {
    if interval.active().next().is_none() {
        return NOTHING.to_owned();
    }
    let mut layout = Layout::new(scale);
    layout.fit(interval);
    layout.header() + &layout.rows(interval)
}

/// What stands before a column: more room where a group begins or ends.
fn separator(column: usize) -> &'static str {
    match column {
        0 => "",
        _ if COLUMNS[column].group != COLUMNS[column - 1].group => "  ",
        _ => " ",
    }
}

fn cells(filesystem: &FilesystemInterval, duration_ns: u64, scale: Scale) -> [String; COLUMNS.len()] {
    let FilesystemInterval { identity, ledger: Ledger { write, prefault, copy }, .. } = filesystem;
    let scaled = |count: u64| match scale {
        Scale::Total => count,
        Scale::PerSecond => units::per_second(count, duration_ns),
    };
    let percent = |fraction: Option<f64>| fraction.map_or_else(absent, units::percent_number);
    let median =
        |latency: &Histogram| latency.quantile(0.5).map_or_else(absent, |ns| without_space(&units::duration(ns)));
    [
        units::printable(&identity.fstype),
        units::printable(&identity.device),
        units::compact_count(scaled(write.calls)),
        without_space(&units::bytes(scaled(write.bytes))),
        units::compact_count(write.errors),
        units::compact_count(prefault.calls),
        units::compact_count(prefault.needed()),
        percent(units::fraction(prefault.needed(), prefault.user_calls())),
        units::compact_count(prefault.failed()),
        filesystem.prefault_share().map_or_else(absent, share),
        units::compact_count(copy.calls),
        units::compact_count(copy.short()),
        percent(units::fraction(copy.short(), copy.user_calls())),
        median(&write.latency),
        median(&prefault.latency_not_needed),
        median(&prefault.latency_needed),
        median(&copy.latency),
    ]
}

/// A share of time in percent, in at most five characters: less than a hundredth is below what times can tell.
fn share(fraction: f64) -> String {
    if fraction > 0.0 && fraction < 0.0001 { "<0.01".to_owned() } else { units::percent_number(fraction) }
}

fn absent() -> String {
    "-".to_owned()
}

/// A quantity without the space before its unit, which a narrow column has no room for.
fn without_space(quantity: &str) -> String {
    quantity.replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_widths_fit_120_columns() {
        for scale in [Scale::Total, Scale::PerSecond] {
            let header = Layout::new(scale).header();
            let widths: Vec<usize> = header.lines().map(|line| line.chars().count()).collect();
            assert_eq!(widths.len(), 2);
            assert!(widths.iter().all(|width| (100..=120).contains(width)), "{widths:?}\n{header}");
        }
    }

    #[test]
    fn columns_of_a_group_are_adjacent() {
        let groups: Vec<usize> = COLUMNS.iter().filter_map(|column| column.group).collect();
        assert!(groups.is_sorted());
        assert_eq!(groups.last(), Some(&(GROUPS.len() - 1)));
    }
}
