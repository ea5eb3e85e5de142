//! FORMAT.md against the document it describes: every field and every loss counter is named in it.

use std::{collections::BTreeSet, fs, path::Path};

use prefault_user::data::LossReport;
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the file is there")
}

/// Names of all members of all objects below `value`.
fn members(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            names.extend(object.keys().cloned());
            object.values().for_each(|value| members(value, names));
        }
        Value::Array(array) => array.iter().for_each(|value| members(value, names)),
        _ => {}
    }
}

#[test]
fn every_field_is_described() {
    let format = read("../FORMAT.md");
    let document: Value = serde_json::from_str(&read("tests/output/all.json")).expect("a document");
    let mut names = BTreeSet::new();
    members(&document, &mut names);
    assert!(names.contains("le_ns") && names.contains("user_address"));
    for name in names {
        assert!(format.contains(&format!("`{name}`")), "FORMAT.md does not describe {name}");
    }
}

#[test]
fn every_loss_counter_is_listed_with_its_phrase() {
    let format = read("../FORMAT.md");
    for entry in LossReport::default().entries() {
        let row = format!("| `{}` | {} |\n", entry.key, entry.phrase);
        assert!(format.contains(&row), "FORMAT.md lacks the row {row}");
    }
}
