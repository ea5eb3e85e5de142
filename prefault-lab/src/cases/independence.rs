//! The tool beside others: an independent one counts the same, and another one's probe in the same place does no harm.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_parts, truths};
use crate::{document::Document, guest::Said};

pub const CASES: &[Case] = &[
    Case {
        name: "bpftrace counts the same",
        kernels: Kernels::Reference,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 150,
        script: r#"bpftrace -e 'kprobe:generic_perform_write /comm == "workload"/ { @writes = count(); }' > bpftrace 2>&1 &
until grep -q Attach bpftrace; do sleep 0.2; done
sleep 1
prefault --json -o counted.json -- workload resident --count 500 /mnt/ext4 /mnt/tmpfs > truth
code=$?
kill -INT %1; wait %1
exit $code
"#,
        check: bpftrace,
    },
    Case {
        name: "another probe at the same call",
        kernels: Kernels::All,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 90,
        script: r#"sites=$(prefault doctor --dry-run)
offset=$(sed -n 's/^ *copy *generic_perform_write+\(0x[0-9a-f]*\) .*/\1/p' <<< "$sites" | head -n 1)
echo "offset $offset"
trace=/sys/kernel/tracing
# Recording the names of tasks patches the scheduler, which an emulated processor has been seen to trip over.
echo 0 > $trace/options/record-cmd
echo 0 > $trace/options/record-tgid
echo "p:other generic_perform_write+$offset" > $trace/kprobe_events
echo 1 > $trace/events/kprobes/other/enable
prefault doctor > doctor
prefault --json -o counted.json -- workload resident /mnt/ext4 /mnt/tmpfs > truth
code=$?
echo 0 > $trace/events/kprobes/other/enable
grep -c other: $trace/trace > hits
echo > $trace/kprobe_events
echo > $trace/trace
exit $code
"#,
        check: other_probe,
    },
    Case {
        name: "two at once count the same",
        kernels: Kernels::Reference,
        boot: Boot::Plain,
        group: Group::Core,
        limit_seconds: 120,
        script: "prefault --json -o outer.json -- prefault --json -o counted.json -- workload absent /mnt/ext4 /mnt/tmpfs > truth\n",
        check: |said, _| {
            said.expect_code(0)?;
            exact(said, "counted.json")?;
            exact(said, "outer.json")
        },
    },
];

/// Writes of ext4 and tmpfs in the document are those of the workload.
fn exact(said: &Said, name: &str) -> Result<()> {
    let document: Document = said.json(name)?;
    for truth in truths(said)? {
        let fstype = truth.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let counted = document.filesystem(&fstype)?;
        let is = (counted.write.calls, counted.write.bytes, counted.prefault.calls, counted.copy.calls);
        ensure!((is.0, is.1) == (truth.writes, truth.bytes), "{name}: {fstype} is {is:?}, expected {truth:?}");
        ensure!(is.3 >= truth.writes, "{name}: {} copies on {fstype}, expected {}", is.3, truth.writes);
    }
    document.expect_no_loss()
}

fn bpftrace(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    exact(said, "counted.json")?;
    let output = said.file("bpftrace")?;
    let count = output.lines().find_map(|line| line.strip_prefix("@writes: ")?.trim().parse::<u64>().ok());
    ensure!(count == Some(1000), "bpftrace counted {count:?}, expected 1000\n{output}");
    Ok(())
}

fn other_probe(said: &Said, _: &Context) -> Result<()> {
    said.expect_code(0)?;
    ensure!(said.stderr.is_empty(), "{}", said.stderr.trim_end());
    expect_parts(&said.file("doctor")?, &["another tool's probe is here too"])?;
    exact(said, "counted.json")?;
    let hits: u64 = said.json("hits")?;
    ensure!(hits >= 200, "the other probe was hit {hits} times, expected 200");
    Ok(())
}
