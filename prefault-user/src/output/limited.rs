//! What came of a limit to the cost: a line for a table, a paragraph for a report.

use crate::data::{Estimate, FilesystemEstimates, OverheadReport};

use super::units;

/// The limit and what was taken, as a line.
pub fn line(limited: &OverheadReport) -> String {
    let limit = limited.limit;
    format!(
        "limit: {} of the time of {}; measuring took {}, {}\n",
        units::percent(limit.percent / 100.0),
        units::counted(limit.n_processors.into(), "processor", "processors"),
        units::percent(limited.cost_share),
        extent(limited)
    )
}

/// What was measured of all there was.
fn extent(limited: &OverheadReport) -> String {
    if is_partial(limited) {
        let windows = match limited.windows {
            0 => "at its begin".to_owned(),
            n => format!("in {}", units::counted(n, "window", "windows")),
        };
        let share = limited.counted_gap_share;
        let part = if share < 1.0 { format!("{} of ", units::percent(share)) } else { String::new() };
        let open = units::percent(limited.open_share);
        return format!("and counted {open} of the time, {windows}, and calls alone in {part}the gaps");
    }
    match limited.timed_one_in {
        None => "with everything counted".to_owned(),
        Some(1) => "with everything counted and timed".to_owned(),
        Some(n) => format!("with everything counted and one write in {n} timed"),
    }
}

/// Whether there was time in which not everything was counted.
fn is_partial(limited: &OverheadReport) -> bool {
    limited.windows > 0 || limited.passed_ns > 0
}

/// The line, and if not all of the time was measured, what there was in all.
pub fn report(limited: &OverheadReport) -> String {
    let mut text = line(limited);
    if is_partial(limited) && !limited.estimates.is_empty() {
        text.push_str("What is shown above was counted in that time. In all there were about (± standard error):\n");
        text.extend(limited.estimates.iter().map(estimates));
    }
    if limited.given_up > 0 {
        let calls = units::counted(limited.given_up, "call of a write path", "calls of write paths");
        text.push_str(&format!("  {calls} had not returned a second after the window: not counted\n"));
    }
    text
}

fn estimates(of: &FilesystemEstimates) -> String {
    let [writes, bytes, prefaults, needed, copies, short] = of.estimates;
    let number = |estimate: Estimate| with_error(estimate, &units::count(estimate.total.round() as u64));
    let identity = &of.identity;
    format!(
        "  {} on {}: {} writes of {}\n    {} prefaults, {} of them needed; {} copies, {} of them short\n",
        units::printable(&identity.fstype),
        units::printable(&identity.device),
        number(writes),
        with_error(bytes, &units::bytes(bytes.total.round() as u64)),
        number(prefaults),
        number(needed),
        number(copies),
        number(short)
    )
}

/// A total with its error in percent; without one if there is nothing to be wrong about.
fn with_error(estimate: Estimate, total: &str) -> String {
    match estimate.standard_error {
        None => format!("{total} (± ?)"),
        Some(error) if error > 0.0 && estimate.total > 0.0 => {
            format!("{total} (± {})", units::percent(error / estimate.total))
        }
        Some(_) => total.to_owned(),
    }
}
