//! Rules of the house that no lint covers. A new rule is added here rather than repeated in reviews.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use prefault_lab::paths;
use syn::{spanned::Spanned as _, visit::Visit};

use super::directions;

const MOST_LINES_OF_A_FILE: usize = 400;
const MOST_LINES_OF_A_FUNCTION: usize = 80;
/// The commands that README has to begin with, in this order.
const COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];
const CI: &str = ".ci/run";
const CARGO: &str = ".cargo/config.toml";
/// Makes cargo take the lock file as it is.
const LOCKED: &str = "--locked";
/// The lock file is cargo's, and names the registry.
const NOT_OURS: [&str; 1] = ["Cargo.lock"];
const NOT_SOURCE: [&str; 2] = ["target", ".git"];

/// Checks every file of the workspace.
///
/// # Errors
/// Naming everything that is against the rules.
pub fn check() -> Result<()> {
    let mut complaints = Vec::new();
    let mut files = Vec::new();
    list(paths::workspace(), "", &mut files)?;
    ensure!(!files.is_empty(), "found no files");
    for file in &files {
        // What is not text is not written by hand.
        if let Ok(text) = fs::read_to_string(paths::workspace().join(file)) {
            check_file(file, &text, &mut complaints);
        }
    }
    let checks = [("README.md", check_readme as fn(&str) -> Option<String>), (CI, check_ci), (CARGO, check_cargo)];
    for (file, check) in checks {
        let text = fs::read_to_string(paths::workspace().join(file)).unwrap_or_default();
        complaints.extend(check(&text).map(|complaint| format!("{file}: {complaint}")));
    }
    complaints.extend(directions::check(&files)?);
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

fn list(root: &Path, below: &str, files: &mut Vec<String>) -> Result<()> {
    let directory = root.join(below);
    let context = || format!("failed to read {}", directory.display());
    for entry in fs::read_dir(&directory).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        // In a further work tree .git is a file, and target may be a link.
        if NOT_SOURCE.contains(&path.as_str()) {
            continue;
        }
        if entry.file_type().with_context(context)?.is_dir() {
            list(root, &path, files)?;
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn check_file(file: &str, text: &str, complaints: &mut Vec<String>) {
    let mut complain = |complaint: String| complaints.push(format!("{file}: {complaint}"));
    if !NOT_OURS.contains(&file) {
        for word in forbidden_words() {
            for (index, _) in text.lines().enumerate().filter(|(_, line)| line.contains(&word)) {
                complain(format!("line {} says {word}, which is true of one machine only", index + 1));
            }
        }
    }
    if Path::new(file).extension().is_none_or(|extension| extension != "rs") {
        return;
    }
    if !text.starts_with("//! ") {
        complain("does not open with //! and what it is for".to_owned());
    }
    if text.contains(&["\"CAR", "GO\""].concat()) && !text.contains(LOCKED) {
        complain(format!("starts cargo without {LOCKED}"));
    }
    let n_lines = text.lines().count();
    if n_lines >= MOST_LINES_OF_A_FILE {
        complain(format!("has {n_lines} lines, fewer than {MOST_LINES_OF_A_FILE} are allowed"));
    }
    match syn::parse_file(text) {
        Ok(syntax) => {
            let mut functions = Functions::default();
            functions.visit_file(&syntax);
            for (name, n_lines) in functions.0.into_iter().filter(|(_, n_lines)| *n_lines >= MOST_LINES_OF_A_FUNCTION) {
                complain(format!("{name} has {n_lines} lines, fewer than {MOST_LINES_OF_A_FUNCTION} are allowed"));
            }
        }
        Err(error) => complain(format!("failed to parse: {error}")),
    }
}

/// Put together here, because this file is checked too.
fn forbidden_words() -> [String; 7] {
    [
        ["/wo", "rk/"],
        ["/tmp/ba", "sh"],
        ["/ho", "me/"],
        ["deb.deb", "ian.org"],
        ["crates", ".io"],
        ["static.rust-", "lang.org"],
        ["proxy.go", "lang.org"],
    ]
    .map(|parts| parts.concat())
}

/// Names and lengths of functions, from signature to closing brace.
#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let n_lines = block.span().end().line + 1 - signature.span().start().line;
        self.0.push((signature.ident.to_string(), n_lines));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }
}

/// The first two commands a reader meets are the ones that prove the tool.
fn check_readme(text: &str) -> Option<String> {
    let mut is_code = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if is_code && line.contains("cargo xtask") {
            commands.push(line.trim_start_matches("$ ").split('#').next().unwrap_or_default().trim());
        }
    }
    (!commands.starts_with(&COMMANDS)).then(|| format!("its first commands have to be {}", COMMANDS.join(" and ")))
}

/// Whatever CI does beyond that could not be repeated on another machine.
fn check_ci(text: &str) -> Option<String> {
    let is_set_up = |line: &str| line.is_empty() || ["#", "set ", "cd "].iter().any(|start| line.starts_with(start));
    let commands: Vec<&str> =
        text.lines().map(|line| line.trim().trim_start_matches("exec ")).filter(|line| !is_set_up(line)).collect();
    (commands != [COMMANDS[1]]).then(|| format!("it has to call {} and nothing else", COMMANDS[1]))
}

/// The commands of [`COMMANDS`] are an alias, and build the task runner before anything else is checked.
fn check_cargo(text: &str) -> Option<String> {
    let aliases: Vec<&str> = text.lines().filter(|line| line.contains(" = \"run ")).collect();
    let is_locked = !aliases.is_empty() && aliases.iter().all(|alias| alias.contains(LOCKED));
    (!is_locked).then(|| format!("its aliases have to pass {LOCKED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        check_file(file, text, &mut complaints);
        complaints
    }

    #[test]
    fn files_and_functions_have_limits() {
        assert_eq!(complaints("a.rs", "//! A file.\nfn a() {}\n"), [""; 0]);
        assert_eq!(complaints("a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(complaints("a.md", "fn a() {}\n"), [""; 0]);
        let long = format!("//! A file.\nimpl A {{\n    fn a() {{\n{}    }}\n}}\n", "        b();\n".repeat(78));
        assert_eq!(complaints("a.rs", &long), ["a.rs: a has 80 lines, fewer than 80 are allowed"]);
        assert_eq!(complaints("a.rs", &format!("//! A file.\n{}", "// b\n".repeat(399))).len(), 1);
    }

    #[test]
    fn places_of_one_machine_are_forbidden_except_in_the_lock_file() {
        let text = format!("a\nb {}x\n", forbidden_words()[0]);
        assert_eq!(complaints("a.md", &text).len(), 1);
        assert_eq!(complaints("Cargo.lock", &text), [""; 0]);
    }

    #[test]
    fn readme_begins_with_both_commands() {
        assert_eq!(check_readme("# a\n\n```\ncargo xtask demo   # shows\n$ cargo xtask test\n```\n"), None);
        assert!(check_readme("cargo xtask demo, cargo xtask test").is_some());
        assert!(check_readme("```\ncargo xtask vm\ncargo xtask demo\ncargo xtask test\n```\n").is_some());
    }

    #[test]
    fn cargo_takes_the_lock_file_as_it_is() {
        assert_eq!(check_cargo("[alias]\nxtask = \"run --locked --package xtask --\"\n"), None);
        assert!(check_cargo("[alias]\nxtask = \"run --package xtask --\"\n").is_some());
        assert!(check_cargo("").is_some());
        let start = format!("//! A file.\nconst A: &str = {};\n", ["\"CAR", "GO\""].concat());
        assert_eq!(complaints("a.rs", &start), ["a.rs: starts cargo without --locked"]);
        assert_eq!(complaints("a.rs", &format!("{start}const B: &str = \"--locked\";\n")), [""; 0]);
    }

    #[test]
    fn ci_calls_the_tests_and_nothing_else() {
        assert_eq!(check_ci("#!/usr/bin/env bash\nexec cargo xtask test\n"), None);
        assert_eq!(check_ci("#!/bin/sh\nset -e\ncd \"$(dirname \"$0\")/..\"\ncargo xtask test\n"), None);
        assert!(check_ci("#!/bin/sh\napt-get install x\ncargo xtask test\n").is_some());
        assert!(check_ci("").is_some());
    }
}
