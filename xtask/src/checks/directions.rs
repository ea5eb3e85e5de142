//! Who may import whom. Between crates it is what their manifests say, since cargo knows no other crates; between the modules
//! of a crate it is read from their sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result};
use prefault_lab::{paths, process};
use serde_json::Value;
use syn::{Token, punctuated::Punctuated, visit::Visit};

/// The crates of the workspace, and which of the others each may depend on, its tests included.
const CRATES: [(&str, &[&str]); 4] = [
    ("prefault-ebpf", &[]),
    ("prefault-lab", &[]),
    ("prefault-user", &["prefault-ebpf"]),
    ("xtask", &["prefault-lab"]),
];
/// Those whose modules have no circle of imports.
const WITHOUT_CIRCLES: [&str; 3] = ["prefault-lab", "prefault-user", "xtask"];

/// The tool, and whom each of its topmost modules may import. Commands may import anyone, and nobody may import them.
const TOOL: &str = "prefault-user";
const LAYERS: [(&str, &[&str]); 15] = [
    ("cli", &[]),
    ("data", &[]),
    ("phases", &[]),
    ("workload", &[]),
    ("kernel", &["data", "phases"]),
    ("host", &["data", "kernel"]),
    ("sites", &["data", "kernel"]),
    ("plan", &["data", "kernel", "sites"]),
    ("bpf", &["data", "host", "kernel", "phases", "plan", "sites"]),
    ("overhead", &["bpf", "data"]),
    ("output", &["data"]),
    ("monitor", &["bpf", "cli", "data", "host", "kernel", "output", "overhead", "phases", "plan", "sites"]),
    ("exporter", &["bpf", "cli", "data", "host", "monitor", "output", "plan", "sites"]),
    ("fuzz", &["bpf", "cli", "exporter", "host", "kernel", "plan", "sites"]),
    (
        "commands",
        &[
            "bpf", "cli", "data", "exporter", "host", "kernel", "monitor", "output", "phases", "plan", "sites",
            "workload",
        ],
    ),
];
/// Lines that a file of the commands may have, which are glue.
const MOST_OF_COMMANDS: usize = 150;
/// Crates that one module of the tool uses alone, all others through it.
const KEPT: [(&str, &str); 4] =
    [("aya", "bpf"), ("aya_log", "bpf"), ("hyper", "exporter"), ("tokio_rustls", "exporter")];

/// The topmost modules of a crate, and for each the others that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// What is against the rules, with the names of `files`, all of the workspace.
///
/// # Errors
/// When cargo fails, or a source cannot be read.
pub fn check(files: &[String]) -> Result<Vec<String>> {
    let metadata = process::output(process::cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let mut complaints = dependencies(&serde_json::from_str(&metadata).context("failed to read what cargo says")?);
    for folder in WITHOUT_CIRCLES {
        let sources = format!("{folder}/src/");
        let mut modules = Vec::new();
        for file in files.iter().filter(|file| file.starts_with(&sources) && file.ends_with(".rs")) {
            let text =
                fs::read_to_string(paths::workspace().join(file)).with_context(|| format!("failed to read {file}"))?;
            modules.push((module(&file[sources.len()..]), text));
        }
        let imports = imports(&modules)?;
        if folder == TOOL {
            complaints.extend(layers(&imports));
            complaints.extend(kept(&modules)?);
            complaints.extend(long_commands(&modules));
        }
        if let Some(circle) = circle(imports) {
            complaints.push(format!("{folder}: modules import one another: {circle}"));
        }
    }
    Ok(complaints)
}

/// Imports of the tool that are not in [`LAYERS`].
fn layers(imports: &Imports) -> Vec<String> {
    let mut complaints = Vec::new();
    for (module, imported) in imports.iter().filter(|(module, _)| !["bin", "lib", "main"].contains(&module.as_str())) {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == module) else {
            complaints.push(format!("{TOOL}: it is not said whom {module} may import"));
            continue;
        };
        let wrong = imported.iter().filter(|name| !allowed.contains(&name.as_str()));
        complaints.extend(wrong.map(|name| format!("{TOOL}: {module} may not import {name}")));
    }
    complaints
}

/// Files of the commands that are more than glue.
fn long_commands(modules: &[(Vec<String>, String)]) -> Vec<String> {
    let commands = modules.iter().filter(|(path, _)| path.first().is_some_and(|top| top == "commands"));
    let long = commands.filter(|(_, text)| text.lines().count() > MOST_OF_COMMANDS);
    long.map(|(path, _)| format!("{TOOL}: {} has more than {MOST_OF_COMMANDS} lines", path.join("::"))).collect()
}

/// Uses of crates by modules that they are not kept for.
///
/// # Errors
/// When a source cannot be parsed.
fn kept(modules: &[(Vec<String>, String)]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for (path, text) in modules {
        let Some(top) = path.first().filter(|top| *top != "bin") else { continue };
        let crates = Names::of(path, text)?.crates;
        for (name, keeper) in KEPT.iter().filter(|(name, keeper)| keeper != top && crates.contains(*name)) {
            complaints.push(format!("{TOOL}: {} uses {name}, which is kept in {keeper}", path.join("::")));
        }
    }
    Ok(complaints)
}

/// Dependencies between crates of the workspace that are not in [`CRATES`].
fn dependencies(metadata: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages = list(&metadata["packages"]);
    let mut complaints = Vec::new();
    for package in &packages {
        let Some((name, allowed)) = CRATES.iter().find(|(name, _)| package["name"] == *name) else {
            complaints.push(format!("{}: it is not said what it may depend on", package["name"]));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let is_own = packages.iter().any(|package| package["name"] == dependency["name"]);
            if is_own && !allowed.iter().any(|allowed| dependency["name"] == *allowed) {
                complaints.push(format!("{name}: it may not depend on {}", dependency["name"]));
            }
        }
    }
    complaints
}

/// The path of a file's module in its crate; empty for the root.
fn module(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        path.pop();
    }
    path
}

/// Whom each topmost module imports, from the paths and texts of all modules. The root may import anyone.
fn imports(modules: &[(Vec<String>, String)]) -> Result<Imports> {
    let mut imports: Imports =
        modules.iter().filter_map(|(path, _)| path.first()).map(|top| (top.clone(), BTreeSet::new())).collect();
    for (path, text) in modules {
        let Some(top) = path.first() else { continue };
        let known: BTreeSet<String> =
            Names::of(path, text)?.tops.into_iter().filter(|name| name != top && imports.contains_key(name)).collect();
        imports.entry(top.clone()).or_default().extend(known);
    }
    Ok(imports)
}

/// A circle, if there is one: the modules on it, the first again at the end.
fn circle(mut imports: Imports) -> Option<String> {
    // Who imports nobody that is left is on no circle.
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        imports.retain(|_, imported| imported.iter().any(|name| left.contains(name)));
        if imports.len() == left.len() {
            break;
        }
    }
    let mut way = vec![imports.keys().next()?];
    loop {
        let next = imports[*way.last()?].iter().find(|name| imports.contains_key(*name))?;
        let start = way.iter().position(|name| *name == next);
        way.push(next);
        if let Some(start) = start {
            return Some(way[start..].iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" -> "));
        }
    }
}

/// The topmost modules that a module names, in `use` lines and in paths, and what else paths begin with: other crates, and what is
/// in scope. What only its unit tests name does not count.
struct Names {
    module: Vec<String>,
    tops: BTreeSet<String>,
    crates: BTreeSet<String>,
}

impl Names {
    /// Those of the module at this path, with this text.
    fn of(module: &[String], text: &str) -> Result<Self> {
        let mut names = Self::none(module);
        names.visit_file(&syn::parse_file(text).with_context(|| format!("failed to parse {}", module.join("::")))?);
        Ok(names)
    }

    fn none(module: &[String]) -> Self {
        Self { module: module.to_vec(), tops: BTreeSet::new(), crates: BTreeSet::new() }
    }

    fn add(&mut self, path: &[String]) {
        let mut words = path.iter().map(String::as_str).peekable();
        let mut at = match words.next() {
            Some("crate") => Vec::new(),
            Some("self") => self.module.clone(),
            Some("super") => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            first => {
                self.crates.extend(first.map(str::to_owned));
                return;
            }
        };
        while words.next_if_eq(&"super").is_some() {
            at.pop();
        }
        at.extend(words.map(str::to_owned));
        self.tops.extend(at.into_iter().next());
    }

    fn add_tree(&mut self, mut path: Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(inner) => {
                path.push(inner.ident.to_string());
                self.add_tree(path, &inner.tree);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(path.clone(), tree)),
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                path.push(ident.to_string());
                self.add(&path);
            }
            syn::UseTree::Glob(_) => self.add(&path),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        if !module.attrs.iter().any(is_test) {
            self.module.push(module.ident.to_string());
            syn::visit::visit_item_mod(self, module);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // As far as its arguments are expressions.
        if let Ok(arguments) = call.parse_body_with(Punctuated::<syn::Expr, Token![,]>::parse_terminated) {
            let mut names = Self::none(&self.module);
            arguments.iter().for_each(|argument| names.visit_expr(argument));
            self.tops.extend(names.tops);
            self.crates.extend(names.crates);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_task_runner_depends_on_the_laboratory() {
        let of = |name: &str, on: &[&str]| {
            let on: Vec<Value> = on.iter().map(|name| json!({ "name": name })).collect();
            let mut packages: Vec<Value> =
                CRATES.iter().map(|(name, _)| json!({ "name": name, "dependencies": [] })).collect();
            packages.retain(|package| package["name"] != name);
            packages.push(json!({ "name": name, "dependencies": on }));
            dependencies(&json!({ "packages": packages }))
        };
        assert_eq!(of("xtask", &["anyhow", "prefault-lab"]), [""; 0]);
        assert_eq!(of("prefault-user", &["anyhow", "prefault-ebpf"]), [""; 0]);
        assert_eq!(of("prefault-user", &["prefault-lab"]), ["prefault-user: it may not depend on \"prefault-lab\""]);
        for (name, on) in
            [("prefault-lab", "xtask"), ("prefault-ebpf", "prefault-lab"), ("prefault-lab", "prefault-user")]
        {
            assert_eq!(of(name, &[on]).len(), 1, "{name} on {on}");
        }
        assert_eq!(of("another", &[]).len(), 1);
    }

    #[test]
    fn the_layers_of_the_tool_are_kept() {
        let of = |files: &[(&str, &str)]| {
            let modules: Vec<_> = files.iter().map(|(file, text)| (module(file), (*text).to_owned())).collect();
            let mut complaints = layers(&imports(&modules).expect("they can be parsed"));
            complaints.extend(kept(&modules).expect("they can be parsed"));
            complaints
        };
        let data = ("data/mod.rs", "");
        assert_eq!(of(&[data, ("output/json.rs", "use crate::data::Report;")]), [""; 0]);
        assert_eq!(of(&[data, ("cli/mod.rs", "use crate::data::Report;")]), ["prefault-user: cli may not import data"]);
        assert_eq!(of(&[data, ("other.rs", "")]), ["prefault-user: it is not said whom other may import"]);
        assert_eq!(
            of(&[data, ("monitor/live.rs", "use aya::maps::RingBuf;")]),
            ["prefault-user: monitor::live uses aya, which is kept in bpf"]
        );
        assert_eq!(of(&[data, ("monitor/live.rs", "fn f(ring: aya::maps::RingBuf) { crate::aya::g() }")]).len(), 1);
    }

    /// The circle among modules that are given as file and text.
    fn circle_of(files: &[(&str, &str)]) -> Option<String> {
        let modules: Vec<_> = files.iter().map(|(file, text)| (module(file), (*text).to_owned())).collect();
        circle(imports(&modules).expect("they can be parsed"))
    }

    #[test]
    fn circles_of_modules_are_found_however_they_are_named() {
        assert_eq!(
            circle_of(&[("a.rs", "use crate::b::B;"), ("b/mod.rs", "mod c;"), ("b/c.rs", "use super::C;")]),
            None
        );
        for text in [
            "use crate::{a::A, d};",
            "use super::super::a;",
            "fn f() { crate::a::g() }",
            "fn f(a: &crate::a::A) {}",
            "fn f() { assert!(1 > 0, \"{}\", crate::a::g()) }",
            "mod inner { use super::super::super::a; }",
        ] {
            let found =
                circle_of(&[("lib.rs", "use a::A;"), ("a.rs", "use crate::b::*;"), ("b/c.rs", text), ("d.rs", "")]);
            assert_eq!(found.as_deref(), Some("a -> b -> a"), "{text}");
        }
    }

    #[test]
    fn what_is_no_circle_is_none() {
        for text in
            ["#[cfg(test)] mod tests { use crate::a::A; }", "use other::a::A;", "use self::a::A;", "use super::*;"]
        {
            assert_eq!(circle_of(&[("a.rs", "use crate::b::B;"), ("b/mod.rs", text)]), None, "{text}");
        }
        let around = [
            ("a.rs", "use super::b;"),
            ("b.rs", "use super::c;"),
            ("c.rs", "use super::d;"),
            ("d.rs", "use super::b;"),
        ];
        assert_eq!(circle_of(&around).as_deref(), Some("b -> c -> d -> b"));
    }
}
