//! Checks that need no guest: formatting, lints, the tests of the crates, who links what, and the tool on a machine it cannot
//! measure.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, anyhow, ensure};
use prefault_lab::{
    confinement::given_up,
    paths,
    process::{self, last_lines},
    report::Report,
};

use super::tidy;
use crate::monitoring;

const LINES_SHOWN: usize = 40;
/// What perf needs for kprobes by address.
const KPROBE_PMU: &str = "/sys/bus/event_source/devices/kprobe";

/// Runs all of them that are wanted.
pub fn run(report: &mut Report) {
    let lints = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    check(report, "host formatting", || cargo(&["fmt", "--check", "--", "--color", "never"]).map(drop));
    check(report, "host lints", || cargo(&lints).map(drop));
    check(report, "host tidy", tidy::check);
    check(report, "host rules and alerts", monitoring::check_rules);
    check(report, "host export to a collector", || {
        let test = ["test", "--quiet", "--package", "prefault-user", "--features", "otlp", "--test", "otlp"];
        cargo(&test).map(drop)
    });
    check(report, "host aya-ebpf is not in the tool", || {
        let tree = cargo(&["tree", "--package", "prefault-user", "--edges", "normal", "--prefix", "none"])?;
        let linked: Vec<&str> = tree.lines().filter(|line| line.starts_with("aya-ebpf")).collect();
        ensure!(linked.is_empty(), "prefault-user links {}", linked.join(", "));
        Ok(())
    });
    if report.wants("host unit tests") {
        unit_tests(report);
    }
}

/// The tool on this machine, if it has no kprobes.
pub fn refusal(report: &mut Report, program: &Path) {
    const NAME: &str = "host refusal without kprobes";
    if report.wants(NAME) && Path::new(KPROBE_PMU).exists() {
        report.skip(NAME, "this machine's kernel has kprobes");
        return;
    }
    check(report, NAME, || {
        let output = process::capture(Command::new(program).args(["-d", "1"]))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{}, expected exit code 2: {said}", output.status);
        ensure!(said.lines().count() == 1, "expected one line, got:\n{said}");
        Ok(())
    });
}

/// What a process of this machine's kernel can do once it has given up its privileges.
pub fn confinement(report: &mut Report) {
    const NAME: &str = "host confinement";
    let is_root = process::output(Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0");
    if report.wants(NAME) && !is_root {
        report.skip(NAME, "only root has capabilities to keep");
        return;
    }
    check(report, NAME, || {
        let folder = paths::target("tests").join(format!("confined.{}", std::process::id()));
        for below in ["readable", "writable", "other"] {
            paths::create_dir(&folder.join(below))?;
            paths::write(&folder.join(below).join("file"), "x")?;
        }
        let output = process::output(Command::new(paths::dist().join("confined")).arg(&folder));
        paths::remove_dir(&folder)?;
        given_up(&output?, None)
    });
}

fn check(report: &mut Report, name: &str, check: impl FnOnce() -> Result<()>) {
    if report.wants(name) {
        report.judge(name, check());
    }
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let (text, succeeded) = cargo_output(arguments)?;
    ensure!(succeeded, "cargo {} failed\n{}", arguments[0], last_lines(&text, LINES_SHOWN, "\n"));
    Ok(text)
}

/// What cargo printed on both streams, and whether it succeeded.
fn cargo_output(arguments: &[&str]) -> Result<(String, bool)> {
    let (subcommand, arguments) = arguments.split_first().context("failed to run cargo: it was not said for what")?;
    let output = process::capture(process::cargo(subcommand).args(arguments))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8_lossy(&text).into_owned(), output.status.success()))
}

fn unit_tests(report: &mut Report) {
    const NAME: &str = "host unit tests";
    let result = cargo_output(&["test", "--workspace", "--no-fail-fast"]).and_then(|(text, succeeded)| {
        let (n_passed, n_failed) = tally(&text).context("failed to read a test result")?;
        Ok((text, succeeded, n_passed, n_failed))
    });
    match result {
        Ok((text, succeeded, n_passed, n_failed)) => {
            if n_passed > 0 {
                report.pass(&format!("{NAME} ({n_passed})"), n_passed);
            }
            for name in failed_tests(&text) {
                report.fail(&format!("{NAME}: {name}"), 1, &anyhow!("see cargo test"));
            }
            // One that did not compile, or died, has no result.
            if !succeeded && n_failed == 0 {
                report.fail(NAME, 1, &anyhow!("cargo test failed\n{}", last_lines(&text, LINES_SHOWN, "\n")));
            }
        }
        Err(error) => report.fail(NAME, 1, &error),
    }
}

/// Sums of passed and failed over all `test result` lines.
fn tally(text: &str) -> Option<(u64, u64)> {
    let mut sums = (0, 0);
    for line in text.lines().filter(|line| line.starts_with("test result: ")) {
        let number = |word: &str| {
            let before = line.split(word).next()?;
            before.split_whitespace().last()?.parse::<u64>().ok()
        };
        sums.0 += number(" passed")?;
        sums.1 += number(" failed")?;
    }
    Some(sums)
}

fn failed_tests(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
test units::one ... ok
test units::two ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 41 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn results_of_all_crates_are_summed() {
        assert_eq!(tally(OUTPUT), Some((42, 1)));
        assert_eq!(tally(""), Some((0, 0)));
        assert_eq!(failed_tests(OUTPUT).collect::<Vec<_>>(), ["units::two"]);
    }
}
