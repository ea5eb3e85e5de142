//! What `prefault doctor` says on each kernel, against golden files.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Boot, Case, Context, Group, Kernels, plain};
use crate::{golden, guest::Said};

pub const CASES: &[Case] = &[
    Case {
        name: "doctor",
        kernels: Kernels::All,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 60,
        script: "prefault doctor\n",
        check: golden,
    },
    Case {
        name: "jumps in the great write paths",
        kernels: Kernels::All,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 240,
        // On a busy machine the kernel may take its time.
        script: "for try in 1 2 3 4 5; do
prefault doctor | grep -e ' generic_perform_write+' -e ' iomap_file_buffered_write+' -e ' iomap_write_actor+' > sites
grep -q trap sites || break; sleep 2; done\n",
        check: jumps,
    },
    Case {
        name: "doctor only looking says the same",
        kernels: Kernels::Reference,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 60,
        script: "prefault doctor --dry-run\n",
        check: dry_run,
    },
    plain("doctor's document", Kernels::All, 60, "prefault doctor --json > doctor.json\n", document),
    plain(
        "doctor's document of an obstacle",
        Kernels::All,
        60,
        "echo 0 > /sys/kernel/debug/kprobes/enabled; prefault doctor --json > doctor.json; code=$?
echo 1 > /sys/kernel/debug/kprobes/enabled; exit $code\n",
        document_of_obstacle,
    ),
];

/// The parts of the document that are compared, read as any user would.
#[derive(Debug, Deserialize)]
struct Document {
    format_version: u32,
    kernel: String,
    ready: bool,
    obstacles: Vec<Problem>,
    plan: Option<Plan>,
    memory_bytes: Option<u64>,
    cost: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    remedy: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Plan {
    paths: Vec<Probed>,
    sites: Vec<Probed>,
}

/// A path or a site.
#[derive(Debug, Deserialize)]
struct Probed {
    mechanism: Option<String>,
    refusal: Option<Problem>,
    points: Option<Vec<String>>,
}

/// Everything is probed by kprobes whose form is known, or by fentry; but for what is no write.
fn document(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    let document: Document = said.json("doctor.json")?;
    ensure!(document.format_version == 1 && document.ready && document.obstacles.is_empty(), "{document:?}");
    ensure!(document.kernel.starts_with(&format!("{}.", context.series.trim_end_matches("-rt"))), "{document:?}");
    ensure!(document.memory_bytes.is_some_and(|bytes| bytes > 0), "no memory: {document:?}");
    ensure!(document.cost.as_ref().is_some_and(|cost| cost.len() == 2), "no cost: {document:?}");
    let Plan { paths, sites } = document.plan.context("there is no plan")?;
    ensure!(paths.len() >= 2 && sites.len() >= 4, "{} paths, {} sites", paths.len(), sites.len());
    for probed in paths.iter().chain(&sites) {
        let is_told = match (probed.mechanism.as_deref(), &probed.refusal) {
            (Some("fentry/fexit"), None) => probed.points.is_none(),
            (Some(_), None) => probed.points.as_ref().is_some_and(|points| !points.is_empty()),
            (None, Some(refusal)) => refusal.code == "P027" && refusal.remedy.is_none(),
            _ => false,
        };
        ensure!(is_told, "{probed:?}");
    }
    Ok(())
}

fn document_of_obstacle(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(1)?;
    let document: Document = said.json("doctor.json")?;
    ensure!(!document.ready && document.plan.is_none() && document.cost.is_none(), "{document:?}");
    let [obstacle] = &document.obstacles[..] else { anyhow::bail!("one obstacle was expected: {document:?}") };
    ensure!(obstacle.code == "P005", "{document:?}");
    ensure!(obstacle.remedy.as_deref() == Some("echo 1 > /sys/kernel/debug/kprobes/enabled"), "{document:?}");
    Ok(())
}

fn golden(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    golden::compare(&file(context), &normalized(&said.stdout), context.update_golden)
}

/// Without cookies, as on 5.10, the calls themselves are probed.
fn jumps(said: &Said, context: &Context) -> Result<()> {
    let sites = said.file("sites")?;
    ensure!(sites.lines().count() == 4, "four sites were expected\n{sites}");
    let has_cookies = context.kernel.version >= (5, 15);
    let trapping = sites.lines().filter(|line| line.contains("trap")).count();
    ensure!(trapping == if has_cookies { 0 } else { 4 }, "{trapping} sites trap\n{sites}");
    ensure!(!has_cookies || sites.lines().all(|line| line.contains("kprobe: jump, jump")), "{sites}");
    Ok(())
}

/// What was not loaded takes no memory and no time; the rest has to be the same.
fn dry_run(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    if context.update_golden {
        return Ok(());
    }
    let golden = golden::read(&file(context))?;
    let without_tried = |text: &str| {
        let lines = text.lines().filter(|line| ["memory: ", "cost: "].iter().all(|tried| !line.starts_with(tried)));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    golden::same(&file(context), &without_tried(&golden), &without_tried(&normalized(&said.stdout)))
}

fn file(context: &Context) -> String {
    format!("doctor-{}.txt", context.series)
}

/// Leaves out what another build of the same kernel changes: release, offsets, and the columns they are aligned by; what the
/// kernel had made of the probes when it was asked, which takes a while; and times.
fn normalized(text: &str) -> String {
    let mut normalized = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        normalized.push_str(&line[..indent]);
        let columns: Vec<String> =
            line.split("  ").map(str::trim).filter(|column| !column.is_empty()).map(column).collect();
        normalized.push_str(&columns.join("  "));
        normalized.push('\n');
    }
    normalized
}

fn column(text: &str) -> String {
    if text.starts_with("kernel: ") {
        return "kernel: <release>".to_owned();
    }
    if text.starts_with("cost: ") {
        return "cost: <measured>".to_owned();
    }
    if text.starts_with("kprobe") {
        return text.split(": ").take(1).collect();
    }
    match text.split_once("+0x") {
        Some((function, rest)) => {
            let rest = rest.trim_start_matches(|letter: char| letter.is_ascii_hexdigit());
            format!("{function}+<offset>{rest}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_build_looks_the_same() {
        let text = |release: &str, offset: &str, gap: &str| {
            format!("kernel: {release}\n\ncall sites:\n  prefault  f+{offset} [m]{gap}kprobe: jump, trap  (a note)\n")
        };
        let expected = "kernel: <release>\n\ncall sites:\n  prefault  f+<offset> [m]  kprobe  (a note)\n";
        assert_eq!(normalized(&text("6.12.1-amd64", "0x9d", "  ")), expected);
        assert_eq!(normalized(&text("6.12.107+deb13-amd64", "0x1e7", "      ")), expected);
    }
}
