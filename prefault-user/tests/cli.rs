//! The command line as users meet it: help texts as golden files, and what is said of arguments that make no sense.
//!
//! `UPDATE_GOLDEN=1 cargo test -p prefault-user --test cli` rewrites the files; the difference is to be reviewed.

mod golden;

use std::process::{Command, Output};

/// Golden files of help, and how it is asked for.
const HELP: [(&str, &[&str]); 4] = [
    ("help.txt", &["--help"]),
    ("doctor-help.txt", &["doctor", "--help"]),
    ("export-help.txt", &["export", "--help"]),
    ("selftest-help.txt", &["selftest", "--help"]),
];

/// Runs the tool. Without a terminal and without COLUMNS the width of help does not depend on the machine.
fn prefault(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prefault"));
    command.args(arguments).env_remove("COLUMNS").output().expect("the tool can be started")
}

/// Compares with the golden file of this name, or writes it if asked to.
fn check(name: &str, actual: &[u8]) {
    golden::check(&format!("cli/{name}"), str::from_utf8(actual).expect("text"));
}

#[test]
fn help_is_as_reviewed() {
    for (name, arguments) in HELP {
        let output = prefault(arguments);
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{arguments:?}");
        check(name, &output.stdout);
    }
}

#[test]
fn help_fits_a_screen_of_100_columns() {
    for (_, arguments) in HELP {
        let help = String::from_utf8(prefault(arguments).stdout).expect("text");
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = prefault(&["--version"]);
    assert_eq!(output.stdout, concat!("prefault ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
}

#[test]
fn arguments_that_make_no_sense_are_one_line_and_exit_code_2() {
    for (arguments, expected) in [
        (&["--bogus"][..], "--bogus"),
        (&["bogus"], "bogus"),
        (&["doctor", "--bogus"], "--bogus"),
        (&["doctor", "bogus"], "bogus"),
        (&["-d"], "--duration"),
        (&["-d", "soon"], "such as 10 or 0.5"),
        (&["-d", "0"], "between 0.01 and 31536000"),
        (&["--interval", "-1"], "-1"),
        (&["--json", "--events"], "--events"),
        (&["-d", "1", "-d", "2"], "--duration"),
        (&["-d", "1", "doctor"], "doctor"),
        (&["export", "--listen", "example.org:80"], "IP address"),
        (&["export", "--interval", "5"], "--textfile"),
        (&["export", "--textfile", "metrics.txt"], ".prom"),
        (&["export", "--fstype-exclude", "("], "--fstype-exclude"),
        (&["export", "--device-exclude", "a", "--device-include", "b"], "--device-include"),
        (&["export", "--buckets", "1ms,1us"], "ascend"),
        (&["export", "--buckets", "5"], "with a unit"),
        (&["export", "--web-config", "/nonexistent/file"], "/nonexistent/file"),
    ] {
        let output = prefault(arguments);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}:\n{said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
