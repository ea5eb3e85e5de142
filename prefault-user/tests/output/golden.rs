//! Comparison with golden files beside this one.

use std::{env, fs, path::PathBuf};

/// Compares with the golden file of this name, or writes it if asked to.
pub fn check(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/output").join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).expect("the golden file can be written");
        return;
    }
    let expected = fs::read_to_string(&path).expect("the golden file exists; UPDATE_GOLDEN=1 writes it");
    assert!(actual == expected, "{name} differs from what is rendered now:\n{actual}");
}
