//! Comparison with golden files below `tests`.

use std::{env, fs, path::PathBuf};

/// Compares with the golden file at this path below `tests`, or writes it if asked to.
pub fn check(path: &str, actual: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, actual).expect("the golden file can be written");
        return;
    }
    let expected = fs::read_to_string(&file).expect("the golden file exists; UPDATE_GOLDEN=1 writes it");
    assert!(actual == expected, "{path} differs from what is printed now:\n{actual}");
}
