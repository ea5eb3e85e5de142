//! Every write path that the scan finds on a kernel is one that the matrix writes through, or is listed here with the reason.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels};
use crate::{guest::Said, matrix::paths_table};

/// Paths that no case writes through: the function, and why.
const NOT_COVERED: [(&str, &str); 1] =
    [("btrfs_direct_write", "prefaults for direct I/O, which is no buffered write and is not counted as one")];

pub const CASES: &[Case] = &[Case {
    name: "every write path is covered",
    kernels: Kernels::All,
    boot: Boot::Plain,
    group: Group::Further,
    limit_seconds: 300,
    // All modules that call one of the functions, by any of their names.
    script: "cd /lib/modules/$(uname -r)
names='iov_iter_fault_in_readable|fault_in_iov_iter_readable|iov_iter_copy_from_user_atomic|copy_page_from_iter_atomic|copy_folio_from_iter_atomic'
grep --recursive --files-with-matches --binary-files=text --extended-regexp $names kernel > /tmp/modules
sed 's,.*/,,; s,\\.ko$,,' /tmp/modules | while read -r module; do modprobe $module; done
echo $(cat /tmp/modules) >&2
prefault doctor --dry-run\n",
    check: covered,
}];

fn covered(said: &Said, context: &Context) -> Result<()> {
    said.expect_code(0)?;
    let lines = said.stdout.lines().skip_while(|line| *line != "write paths:").skip(1);
    let found: Vec<&str> =
        lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(found.len() >= 3, "only these paths were found: {}\n{}", found.join(", "), said.stdout);
    let covered = paths_table::functions(&context.series)?;
    let is_known = |function: &str| {
        covered.iter().any(|covered| covered == function) || NOT_COVERED.iter().any(|(known, _)| *known == function)
    };
    let unknown: Vec<&str> = found.into_iter().filter(|function| !is_known(function)).collect();
    ensure!(unknown.is_empty(), "no case writes through {}\n{}", unknown.join(", "), said.stdout);
    Ok(())
}
