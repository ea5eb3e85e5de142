//! What is shipped for Prometheus and Grafana, and the proof that it fits the metrics: `cargo xtask dashboard` writes the
//! dashboard, tests look at rules, alerts, runbook and dashboard.

mod dashboard;
mod panels;

use std::{path::PathBuf, process::Command};

use anyhow::{Result, ensure};
use prefault_lab::{paths, process, prometheus};

const RULES: &str = "packaging/prometheus/prefault.rules.yml";
const RULES_TEST: &str = "packaging/prometheus/prefault.test.yml";
const DASHBOARD: &str = "packaging/grafana/prefault.json";

/// Writes the dashboard.
///
/// # Errors
/// When the file cannot be written.
pub fn write_dashboard() -> Result<()> {
    paths::write(&path(DASHBOARD), dashboard::document())
}

/// Lets Debian's promtool check the rules and run their tests.
///
/// # Errors
/// When promtool cannot be had, or says what is wrong.
pub fn check_rules() -> Result<()> {
    let promtool = prometheus::program("promtool")?;
    for arguments in [["check", "rules", RULES], ["test", "rules", RULES_TEST]] {
        let output = process::capture(Command::new(&promtool).args(arguments).current_dir(paths::workspace()))?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "promtool {}: {}", arguments[0], String::from_utf8_lossy(&said));
    }
    Ok(())
}

fn path(file: &str) -> PathBuf {
    paths::workspace().join(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const METRICS: &str = "docs/metrics.md";
    const RUNBOOK: &str = "docs/runbook.md";
    /// What a histogram's series are called behind its name.
    const HISTOGRAM: [&str; 3] = ["_bucket", "_count", "_sum"];

    fn text(file: &str) -> String {
        fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Names of metrics and of recorded series in expressions.
    fn names(text: &str) -> impl Iterator<Item = &str> {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
        let is_ours = |name: &&str| {
            let after_level = name.split_once(':').map_or(*name, |(_, rest)| rest);
            ["prefault_", "process_"].iter().any(|prefix| after_level.starts_with(prefix))
        };
        text.split(move |letter| !is_name(letter)).filter(is_ours)
    }

    fn is_known(name: &str, metrics: &str, rules: &str) -> bool {
        if name.contains(':') {
            return rules.contains(&format!("- record: {name}\n"));
        }
        let families = HISTOGRAM.iter().filter_map(|suffix| name.strip_suffix(suffix)).chain([name]);
        families.into_iter().any(|family| metrics.contains(&format!("`{family}`")))
    }

    #[test]
    fn names_are_found_in_expressions() {
        let text = "rate(prefault_writes_total{job=\"prefault\"}[5m]) > instance:prefault_x:rate5m and up";
        assert_eq!(names(text).collect::<Vec<_>>(), ["prefault_writes_total", "instance:prefault_x:rate5m"]);
        let metrics = "| `prefault_a_seconds` | histogram |";
        assert!(is_known("prefault_a_seconds_bucket", metrics, ""));
        assert!(!is_known("prefault_b_total", metrics, ""));
        assert!(is_known("instance:prefault_x:rate5m", metrics, "- record: instance:prefault_x:rate5m\n"));
    }

    #[test]
    fn every_metric_that_is_asked_for_exists() {
        let (metrics, rules) = (text(METRICS), text(RULES));
        for file in [RULES, RULES_TEST, DASHBOARD] {
            let text = text(file);
            let unknown: Vec<&str> = names(&text).filter(|name| !is_known(name, &metrics, &rules)).collect();
            assert!(unknown.is_empty(), "{file} asks for {unknown:?}, which {METRICS} does not have");
        }
    }

    #[test]
    fn every_alert_is_explained() {
        let (rules, cases, runbook) = (text(RULES), text(RULES_TEST), text(RUNBOOK));
        let mut n_alerts = 0;
        for block in rules.split("- alert: ").skip(1) {
            let name = block.lines().next().unwrap_or_default();
            let runbook_line = format!("runbook: docs/runbook.md, section {name}\n");
            for part in ["severity: ", "summary: ", "description: ", &runbook_line] {
                assert!(block.contains(part), "{name} has no {part}");
            }
            assert!(runbook.contains(&format!("\n## {name}\n")), "{RUNBOOK} has no section {name}");
            assert!(cases.contains(&format!("- alertname: {name}\n")), "{RULES_TEST} has no case of {name}");
            n_alerts += 1;
        }
        assert_eq!(n_alerts, runbook.matches("\n## ").count(), "{RUNBOOK} has a section without alert");
    }

    #[test]
    fn the_dashboard_is_the_one_that_is_written() {
        assert!(text(DASHBOARD) == dashboard::document(), "{DASHBOARD} is old: run cargo xtask dashboard");
    }
}
