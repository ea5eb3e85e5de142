//! Tables of documents that are made of the table of counters. They stand between markers; `cargo xtask bless` writes them anew.

use std::{env, fs, path::PathBuf};

use prefault_ebpf::{CopyLedger, Counter, PathLedger, PrefaultLedger, Unit, WriteLedger};
use prefault_user::{
    data::{LossEntry, LossReport, LossUnit},
    output::exposition::FAMILIES,
};

/// Rows of the counters of a ledger.
fn fields<L>(counters: &[Counter<L>]) -> String {
    let row = |counter: &Counter<L>| {
        let unit = if counter.unit == Unit::Bytes { "bytes" } else { "" };
        format!("| `{}` | integer | {unit} | no | 1 | {} |\n", counter.name, counter.help)
    };
    let header = "| field | type | unit | null | since | what it is |\n|---|---|---|---|---|---|\n";
    header.to_owned() + &counters.iter().map(row).collect::<String>()
}

/// Rows of the metrics whose names begin with one of these.
fn metrics(names: &[&str]) -> String {
    let mut rows = "| metric | type | labels | what it is |\n|---|---|---|---|\n".to_owned();
    for family in FAMILIES.iter().filter(|family| names.iter().any(|name| family.name.starts_with(name))) {
        let labels: Vec<String> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", family.kind()).to_lowercase();
        let values: String =
            family.label_values().iter().map(|(value, help)| format!(" `{value}`: {}", lower_first(help))).collect();
        rows += &format!("| `{}` | {kind} | {} | {}{values} |\n", family.name, labels.join(", "), family.help());
    }
    rows
}

/// A sentence behind a colon.
fn lower_first(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[test]
fn tables_of_format_md() {
    let path: Vec<Counter<PathLedger>> = PathLedger::COUNTERS
        .iter()
        .filter(|counter| ["calls", "prefaults", "copies"].contains(&counter.name))
        .copied()
        .collect();
    for (name, rows) in [
        ("write", fields(WriteLedger::COUNTERS)),
        ("prefault", fields(PrefaultLedger::COUNTERS)),
        ("copy", fields(CopyLedger::COUNTERS)),
        ("path", fields(&path)),
    ] {
        check_section("../docs/format.md", name, &rows);
    }
    let unit = |unit| match unit {
        LossUnit::Times => "",
        LossUnit::Bytes => "bytes",
        LossUnit::Nanoseconds => "ns",
    };
    let row = |entry: LossEntry| {
        format!("| `{}` | integer | {} | no | 1 | {} |\n", entry.key, unit(entry.unit), entry.phrase)
    };
    let rows: String = LossReport::default().entries().map(row).collect();
    check_section(
        "../docs/format.md",
        "loss",
        &format!("| field | type | unit | null | since | what it is |\n|---|---|---|---|---|---|\n{rows}"),
    );
}

#[test]
fn tables_of_metrics_md() {
    for (name, families) in [
        ("write", &["prefault_write"][..]),
        ("prefault", &["prefault_prefault"]),
        ("copy", &["prefault_cop"]),
        ("path", &["prefault_path_c", "prefault_path_pref"]),
    ] {
        check_section("../docs/metrics.md", name, &metrics(families));
    }
}

/// Compares with what stands between the markers of that name in the document at this path from the package, or writes it if asked to.
fn check_section(path: &str, name: &str, actual: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let document = fs::read_to_string(&file).expect("the document is there");
    let (begin, end) = (format!("<!-- begin of table {name} -->\n"), format!("<!-- end of table {name} -->\n"));
    let (before, rest) = document.split_once(&begin).expect("the document has the marker of the beginning");
    let (expected, after) = rest.split_once(&end).expect("the document has the marker of the end");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, format!("{before}{begin}\n{actual}\n{end}{after}")).expect("the document can be written");
        return;
    }
    assert!(expected.trim() == actual.trim(), "table {name} of {path} differs from what is printed now:\n{actual}");
}
