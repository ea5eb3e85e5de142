//! The document of `prefault doctor --json`: of real kernels as golden files, and docs/format.md against all of its fields.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use prefault_user::{
    bpf::made::KprobeKind,
    commands::doctor::{
        diagnosis::{Cost, Diagnosis, Slots},
        planned::Points,
    },
    plan::Refusal,
};
use serde_json::Value;

use super::{
    KERNELS, check,
    facts::{facts, plan_of},
};

/// Where docs/format.md describes the document, until the next heading of that level.
const SECTION: &str = "\n# The document of prefault doctor\n";
/// What the column says of a field that is always there.
const NEVER: &str = "never";
/// Fields with a problem in them have the fields of the first of these, which is described.
const PROBLEMS: [&str; 4] = ["obstacles[]", "remarks[]", "plan.paths[].refusal", "plan.sites[].refusal"];

/// What is said of a kernel on which nothing was tried.
fn untried(release: &str) -> Diagnosis {
    let diagnosis = Diagnosis::new(Some(release.to_owned()), Slots { available: 64, mounted: 20 }, None);
    let diagnosis = diagnosis.with_plan(&plan_of(&facts(release)), &Points::default());
    Diagnosis { version: "0.0.0", ..diagnosis }
}

/// All that there can be, on a kernel that has a caller that is no write.
fn tried(release: &str) -> Diagnosis {
    let plan = plan_of(&facts(release));
    let points = Points {
        paths: vec![vec![KprobeKind::Jump, KprobeKind::Ftrace]; plan.paths.len()],
        sites: vec![vec![KprobeKind::Jump, KprobeKind::Trap]; plan.sites.len()],
    };
    let mut diagnosis = Diagnosis::new(None, Slots { available: 1, mounted: 20 }, Some(4_000_000));
    diagnosis = diagnosis.with_plan(&plan, &points);
    let mut planned = diagnosis.plan.expect("it was given");
    let refusal = Refusal::from(io::Error::from_raw_os_error(libc::EINVAL)).problem();
    (planned.paths[0].mechanism, planned.paths[0].refusal) = (None, Some(refusal.clone()));
    Diagnosis {
        obstacles: vec![refusal],
        plan: Some(planned),
        memory_bytes: Some(1 << 20),
        cost: Some(vec![Cost { write_bytes: 4096, without_ns: 800, added_ns: 900 }]),
        ..diagnosis
    }
}

fn value(diagnosis: &Diagnosis) -> Value {
    serde_json::to_value(diagnosis).expect("it can be serialized")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Adds all fields below `value`, with the types that they were seen to have.
fn add_fields(value: &Value, at: &str, fields: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let at = PROBLEMS.iter().find(|&&problem| problem == at).map_or(at, |_| PROBLEMS[0]);
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                fields.entry(path.clone()).or_default().insert(kind(value));
                add_fields(value, &path, fields);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| add_fields(value, &format!("{at}[]"), fields)),
        _ => {}
    }
}

/// Field, type and meaning of absence of each row of the section.
fn described() -> Vec<[String; 3]> {
    let format = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let format = fs::read_to_string(format).expect("the file is there");
    let section = format.split_once(SECTION).expect("the section is there").1;
    let section = section.split("\n# ").next().unwrap_or_default();
    let row = |line: &str| {
        let columns: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [field, kind, _unit, absent, _what, ""] = columns[..] else { panic!("five columns: {line}") };
        Some([field.trim_end_matches('`'), kind, absent].map(str::to_owned))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn documents_are_as_reviewed() {
    for kernel in KERNELS {
        let text = serde_json::to_string_pretty(&untried(kernel.release)).expect("it can be serialized");
        check(kernel.release, "doctor.json", &(text + "\n"));
    }
}

#[test]
fn format_describes_every_field_with_its_type_and_absence_and_no_other() {
    let mut documents: Vec<Diagnosis> = KERNELS.iter().map(|kernel| untried(kernel.release)).collect();
    documents.push(tried(KERNELS[4].release));
    documents.push(Diagnosis::new(None, Slots::default(), None));
    let mut fields = BTreeMap::new();
    documents.iter().for_each(|document| add_fields(&value(document), "", &mut fields));
    let described = described();
    let names: BTreeSet<&String> = described.iter().map(|[field, ..]| field).collect();
    assert_eq!(names.len(), described.len(), "a field is described twice");
    assert_eq!(names, fields.keys().collect(), "described, and there");
    for [field, kind, absent] in &described {
        let seen = &fields[field];
        let expected: BTreeSet<&str> = if absent == NEVER { [&**kind].into() } else { [&**kind, "null"].into() };
        assert_eq!(*seen, expected, "{field}: types that it was seen to have, and those described");
    }
}
