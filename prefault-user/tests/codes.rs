//! docs/production.md against the codes in the program.

use std::{fs, path::Path};

use prefault_user::data::{CODES, CodeRow};

#[test]
fn the_table_of_codes_is_that_of_the_program() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/production.md");
    let readme = fs::read_to_string(readme).expect("the file is there");
    let listed: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `P")).collect();
    let row = |row: &CodeRow| {
        let CodeRow { number, means, cause, remedy, .. } = row;
        format!("| `{number}` | {means} | {cause} | {} |", remedy.unwrap_or("none"))
    };
    let expected: Vec<String> = CODES.iter().map(row).collect();
    assert_eq!(listed, expected, "the table should be\n{}\n", expected.join("\n"));
}
