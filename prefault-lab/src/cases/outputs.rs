//! What people read: tables at each interval, and the report at the end.

use anyhow::{Result, ensure};

use super::{Case, Check, Context, Kernels, expect_parts, plain};
use crate::{
    document::{Document, Filesystem, total},
    guest::Said,
};

const fn case(name: &'static str, script: &'static str, check: Check) -> Case {
    plain(name, Kernels::Reference, 90, script, check)
}

pub const CASES: &[Case] = &[
    case(
        "tables at each interval",
        "prefault -i 0.5 -- sh -c 'for i in 1 2 3 4 5; do workload resident /mnt/tmpfs > /dev/null; sleep 0.6; done'\n",
        tables,
    ),
    case(
        "a document of each interval",
        "prefault --json -i 0.5 -o documents -- sh -c 'for i in 1 2 3 4 5; do workload absent /mnt/tmpfs > /dev/null; sleep 0.6; done'\n",
        documents,
    ),
    case(
        "tables at signals",
        "prefault -o tables -- bash -c 'for rows in 1 2; do workload absent /mnt/tmpfs > /dev/null; kill -USR1 $PPID
until [ \"$(grep --count \"^tmpfs \" tables)\" -ge $rows ]; do sleep 0.05; done; done'\n",
        |said, _| {
            let tables = said.file("tables")?;
            let n_rows = tables.lines().filter(|line| line.starts_with("tmpfs    tmpfs ")).count();
            // And one in the report, of both.
            ensure!(n_rows == 3, "{n_rows} rows of tmpfs, expected 3\n{tables}");
            expect_parts(&tables, &["200 calls, 200 prefaults, 200 copies", "loss: none"])
        },
    ),
    case("duration", "prefault -d 2 -i 0.5\n", |said, _| {
        said.expect_code(0)?;
        expect_parts(
            &said.stdout,
            &["no buffered writes\n", "(mmap), direct I/O, DAX", "measured for 2.", "loss: none"],
        )
    }),
    case("report", "prefault -- sh -c 'workload absent /mnt/ext4 /mnt/tmpfs > /dev/null'\n", |said, _| {
        said.expect_code(0)?;
        let parts = ["ext4 on ram0", "tmpfs", "generic_perform_write", "eager", "p50", "p99", "loss: none"];
        expect_parts(&said.stdout, &parts)
    }),
    case("output that cannot be written", "prefault -d 1 -o /nonexistent/file\n", |said, _| {
        super::expect_refusal(said, &["/nonexistent/file"])
    }),
    case(
        "own cost",
        "prefault --own-cost --json -o counted.json -- workload resident /mnt/tmpfs > truth\n",
        |said, _| {
            said.expect_code(0)?;
            let document: serde_json::Value = said.json("counted.json")?;
            let runs = document.pointer("/own_cost/runs").and_then(serde_json::Value::as_u64).unwrap_or_default();
            let share = document.pointer("/own_cost/share_of_cpu").and_then(serde_json::Value::as_f64);
            // Each of 100 writes meets six points.
            ensure!(runs >= 600, "{runs} runs of programs, expected 600");
            ensure!(share.is_some_and(|share| share > 0.0 && share < 1.0), "a share of {share:?}");
            Ok(())
        },
    ),
    case("full disk", "prefault --json -d 1 > /dev/full\n", |said, _| super::expect_refusal(said, &["space"])),
];

fn tables(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    let n_rows = said.stdout.lines().filter(|line| line.starts_with("tmpfs ")).count();
    ensure!(n_rows >= 4, "{n_rows} rows of tmpfs, expected at least 4");
    // Numbers without their heading mean nothing.
    let heading = said.stdout.find("WRITES/s");
    ensure!(
        heading.is_some() && heading < said.stdout.find("tmpfs "),
        "no heading before the first row\n{}",
        said.stdout
    );
    expect_parts(&said.stdout, &["loss: none"])
}

/// Together they say what one document would have said.
fn documents(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    let documents = said.file("documents")?;
    let documents: Vec<Document> = documents.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of_tmpfs = documents.iter().flat_map(|document| document.filesystem("tmpfs"));
    let written: Vec<&Filesystem> = of_tmpfs.filter(|filesystem| filesystem.write.calls > 0).collect();
    // Two that follow each other closely may be in one.
    ensure!(written.len() >= 3, "{} of {} documents show writes, expected at least 3", written.len(), documents.len());
    let sum = |count: fn(&Filesystem) -> u64| written.iter().map(|filesystem| count(filesystem)).sum::<u64>();
    let sums = [sum(|tmpfs| tmpfs.write.calls), sum(|tmpfs| tmpfs.copy.calls), sum(|tmpfs| total(&tmpfs.copy.buckets))];
    ensure!(sums == [500; 3], "writes, copies and timed copies are {sums:?}, expected 500 of each");
    documents.iter().try_for_each(Document::expect_no_loss)
}
