//! The start page of the exporter: what it is, where the metrics are, and the live state, as plain HTML.

use std::fmt::Write as _;

use super::units;
use crate::data::{Exported, Operation, Series, SiteMechanism};

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #8885; --quiet: #767676; }
@media (prefers-color-scheme: dark) { :root { --quiet: #9a9a9a; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; }
.quiet { color: var(--quiet); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 1rem 0; padding: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
main ul { margin: 0; padding-left: 1.25rem; }
.name { text-align: left; }
";

/// The page.
pub fn page(exported: &Exported) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>prefault</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>prefault</h1>\n\
         <p class=\"quiet\">The prefault and the atomic copy of buffered writes, per filesystem.</p>\n</header>\n\
         <nav>\n<ul>\n<li><a href=\"/metrics\">Metrics</a></li>\n<li><a href=\"/-/healthy\">Healthy</a></li>\n\
         <li><a href=\"/-/ready\">Ready</a></li>\n</ul>\n</nav>\n<main>\n"
    );
    measuring(&mut page, exported);
    filesystems(&mut page, exported);
    loss(&mut page, exported);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn measuring(page: &mut String, exported: &Exported) {
    page.push_str("<section>\n<h2>Measuring</h2>\n<dl>\n");
    entry(page, "Version", env!("CARGO_PKG_VERSION"));
    entry(page, "Kernel", &exported.kernel);
    entry(page, "Measuring for", &span(exported.uptime_ns / 1_000_000_000));
    for operation in [Operation::Prefault, Operation::Copy] {
        let of = exported.sites.iter().filter(|site| site.operation == operation && site.count > 0);
        let needed = of.filter(|site| site.mechanism != SiteMechanism::NotAWrite);
        let (not_measured, measured): (Vec<_>, Vec<_>) = needed.partition(|site| site.mechanism == SiteMechanism::None);
        let measured = measured.iter().map(|site| format!("{} by {}", site.count, site.mechanism.name()));
        let not_measured = not_measured.iter().map(|site| format!("{} not measured", site.count));
        let counts: Vec<String> = measured.chain(not_measured).collect();
        let counts = if counts.is_empty() { "none found".to_owned() } else { counts.join(", ") };
        entry(page, &format!("Calls of the {operation}"), &counts);
    }
    match exported.timed_one_in() {
        Some(1) => {}
        None => entry(page, "Timed", "nothing"),
        Some(n) => entry(page, "Timed", &format!("one write in {}", units::count(u64::from(n)))),
    }
    if let Some(limited) = &exported.limited {
        let limit = format!("{} of all processors", units::percent(limited.limit.percent / 100.0));
        entry(page, "Limit", &format!("{limit}; measuring took {}", units::percent(limited.cost_share)));
        entry(page, "Counted", &format!("{} of the time", units::percent(limited.open_share)));
    }
    if let Some(cost) = exported.own_cost
        && let Some(share) = cost.share_of_cpu(exported.uptime_ns)
    {
        entry(page, "Own programs", &format!("{} of one processor", units::percent(share)));
    }
    if let Some(process) = exported.process {
        entry(page, "Memory", &units::bytes(process.resident_bytes));
    }
    page.push_str("</dl>\n</section>\n");
}

fn filesystems(page: &mut String, exported: &Exported) {
    page.push_str("<section>\n<h2>Filesystems with writes</h2>\n");
    let active: Vec<&Series> = exported.filesystems.iter().filter(|series| series.totals.is_active()).collect();
    if active.is_empty() {
        page.push_str("<p>No buffered writes yet.</p>\n</section>\n");
        return;
    }
    page.push_str(
        "<div class=\"wide\" role=\"region\" aria-label=\"Filesystems with writes\" tabindex=\"0\">\n\
         <table>\n<thead>\n<tr><th class=\"name\">Filesystem</th>\
         <th class=\"name\">Mode</th><th>Writes</th><th>Bytes</th><th>Prefaults</th><th>Needed</th><th>Copies</th><th>Short</th></tr>\n</thead>\n\
         <tbody>\n",
    );
    for Series { labels, totals } in active {
        let name = match (&*labels.device, labels.mount_point.as_deref().unwrap_or_default()) {
            ("-", "") => labels.fstype.clone(),
            (device, "") => format!("{} on {device}", labels.fstype),
            (device, mount_point) => format!("{} on {device}, {mount_point}", labels.fstype),
        };
        let counts = [
            units::count(totals.ledger.write.calls),
            units::bytes(totals.ledger.write.bytes),
            units::count(totals.ledger.prefault.calls),
            units::count(totals.ledger.prefault.needed()),
            units::count(totals.ledger.copy.calls),
            units::count(totals.ledger.copy.short()),
        ];
        // Writing to a string does not fail.
        let _unused = writeln!(
            page,
            "<tr><td class=\"name\">{}</td><td class=\"name\">{}</td><td>{}</td></tr>",
            escaped(&name),
            totals.mode(),
            counts.join("</td><td>")
        );
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
    if exported.n_over_limit > 0 {
        let n = units::counted(exported.n_over_limit, "filesystem is", "filesystems are");
        let _unused = writeln!(page, "<p class=\"quiet\">{n} beyond the limit and counted under other.</p>");
    }
    if exported.n_without_slot > 0 {
        let n = units::counted(exported.n_without_slot, "filesystem has", "filesystems have");
        let _unused = writeln!(
            page,
            "<p class=\"quiet\">{n} found no slot (--slots), and what is written there is counted under other.</p>"
        );
    }
    page.push_str("</section>\n");
}

fn loss(page: &mut String, exported: &Exported) {
    page.push_str("<section>\n<h2>Loss</h2>\n");
    if exported.loss.is_empty() {
        page.push_str("<p>None: nothing was seen to be missed.</p>\n");
    } else {
        page.push_str("<ul>\n");
        for entry in exported.loss.non_zero() {
            let _unused = writeln!(page, "<li>{} {}</li>", units::lost(&entry), entry.phrase);
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</section>\n");
}

fn entry(page: &mut String, term: &str, description: &str) {
    let _unused = writeln!(page, "<dt>{term}</dt><dd>{}</dd>", escaped(description));
}

/// What the kernel says may hold any characters.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A time span in its two largest units.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_be_markup() {
        assert_eq!(escaped("<a href='\"'>&\n"), "&lt;a href=&#39;&quot;&#39;&gt;&amp;\u{fffd}");
    }

    #[test]
    fn spans_have_two_units() {
        let cases = [(5, "5 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected);
        }
    }
}
