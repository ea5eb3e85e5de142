//! docs/format.md against the documents it describes, by the path of each field: all are described, with their types, and no others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use prefault_user::data::LossReport;
use serde_json::Value;

/// All golden documents; one has a limit, one a clock that is too coarse, one nothing.
const DOCUMENTS: [&str; 3] = ["all.json", "limited.json", "idle.json"];
/// Objects that stand in several places and are described once.
const ANYWHERE: [&str; 2] = ["buckets[]", "limit.estimates[].*"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the file is there")
}

/// The types of all values below `value`, by path.
fn types(value: &Value, path: &str, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    found.entry(path.to_owned()).or_default().insert(name);
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                types(value, &described(path, key), found);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| types(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// The path by which docs/format.md describes a field of what is at `path`.
fn described(path: &str, key: &str) -> String {
    if path.ends_with(ANYWHERE[0]) && !path.contains("rounds") {
        return format!("{}.{key}", ANYWHERE[0]);
    }
    if path.contains(".latency_") {
        return format!("latency.{key}");
    }
    match path.strip_prefix("limit.estimates[].") {
        Some(_) => format!("{}.{key}", ANYWHERE[1]),
        None if path.is_empty() => key.to_owned(),
        None => format!("{path}.{key}"),
    }
}

/// Cells of the rows of docs/format.md that describe fields, by path.
fn rows() -> BTreeMap<String, Vec<String>> {
    let (mut rows, mut section, mut is_of_fields) = (BTreeMap::new(), String::new(), false);
    for line in read("../docs/format.md").lines() {
        if line.starts_with('#') {
            section = line.split('`').nth(1).map_or_else(String::new, |path| format!("{path}."));
        }
        is_of_fields =
            line.starts_with("| field | type | unit | null | since |") || is_of_fields && line.starts_with('|');
        if let Some(name) = line.strip_prefix("| `").filter(|_| is_of_fields).and_then(|rest| rest.split('`').next()) {
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            let before = rows.insert(format!("{section}{name}"), cells);
            assert_eq!(before, None, "{section}{name} is described twice");
        }
    }
    rows
}

#[test]
fn every_field_is_described_with_its_type_and_no_other() {
    let mut found = BTreeMap::new();
    for document in DOCUMENTS {
        let document: Value = serde_json::from_str(&read(&format!("tests/output/{document}"))).expect("a document");
        types(&document, "", &mut found);
    }
    found.retain(|path, _| !path.is_empty() && !path.ends_with("[]"));
    let rows = rows();
    let paths = |paths: Vec<&String>| paths.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(paths(found.keys().collect()), paths(rows.keys().collect()));
    for (path, types) in found {
        let [_, kind, _, null, since, what] = &rows[&path][..] else { panic!("{path}: {:?}", rows[&path]) };
        assert!(since.parse::<u32>().is_ok() && !what.is_empty(), "{path}: {:?}", rows[&path]);
        assert!(null == "yes" || !types.contains("null"), "{path} is null in a document");
        // A fraction may happen to be whole.
        let is_right = |name: &str| name == "null" || name == kind || (kind == "number" && name == "integer");
        assert!(types.iter().all(|name| is_right(name)), "{path} is {types:?}, described as {kind}");
    }
}

#[test]
fn every_loss_counter_is_described() {
    let rows = rows();
    for entry in LossReport::default().entries() {
        assert!(rows.contains_key(&format!("loss.{}", entry.key)), "docs/format.md lacks {}", entry.key);
    }
}
