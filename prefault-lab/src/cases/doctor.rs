//! What `prefault doctor` says on each kernel, against golden files.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels};
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
];

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
