//! A limit to what measuring may cost: it is kept, and what is estimated from windows is what there was.

use anyhow::{Context as _, Result, ensure};

use super::{Case, Kernels, plain};
use crate::{
    document::{Document, Limit},
    guest::Said,
};

/// Bytes of a write, and writes that `pace --batches N` makes: one batch more to warm up.
const BYTES: f64 = 4096.0;
const WRITES_PER_BATCH: f64 = 200.0;

/// What is above the limit by that much was taken before the first look, or while points were changed.
const TOLERANCE: f64 = 1.15;

/// Standard errors that an estimate may be off where calls were not counted throughout: they do not say how much fewer writes
/// there are while calls are counted.
const ERRORS: f64 = 5.0;

pub const CASES: &[Case] = &[
    plain(
        "a load that swings is kept below a limit, and known by its windows",
        Kernels::Spread,
        200,
        "prefault -v --json --max-overhead 2 -o counted.json -- bash -c '
for round in {1..80}; do
    pace --batches 10 /mnt/tmpfs > /dev/null
    echo 11 >> batches
    sleep 0.$((round % 10))
done' 2> log\n",
        |said, _| {
            let batches = said.file("batches")?;
            let batches: f64 = batches.lines().filter_map(|line| line.parse::<f64>().ok()).sum();
            let limit = limit(said, batches * WRITES_PER_BATCH, BYTES)?;
            ensure!(limit.windows >= 5, "{} windows", limit.windows);
            ensure!(limit.open_share < 0.9, "{} of the time was measured", limit.open_share);
            Ok(())
        },
    ),
    plain(
        "a writer that waits for nothing is not taken for a slow one in windows",
        Kernels::Reference,
        120,
        "prefault -v --json --max-overhead 10 -o counted.json -- bash -c '
for round in {1..100}; do
    dd if=/dev/zero of=/mnt/tmpfs/file bs=64k count=1000 conv=notrunc 2> /dev/null
done' 2> log\n",
        |said, _| {
            let limit = limit(said, 100.0 * 1000.0, 65536.0)?;
            ensure!(limit.open_share < 0.9, "{} of the time was measured", limit.open_share);
            ensure!(limit.counted_gap_share >= 0.3, "calls were counted in {} of the gaps", limit.counted_gap_share);
            Ok(())
        },
    ),
    plain(
        "a writer that waits for nothing costs little more than the limit even in a short session",
        Kernels::Reference,
        120,
        "prefault -v --json --max-overhead 2 -o counted.json -- pace --batches 15000 /mnt/tmpfs 2> log\n",
        |said, _| {
            said.expect_code(0)?;
            let document: Document = said.json("counted.json")?;
            document.expect_no_loss()?;
            let limit = document.limit.context("there is no limit")?;
            // Before anything is known it takes as much as it takes, and what the lots say has not come to its mean.
            let share = limit.cost_share * 100.0;
            ensure!(share <= limit.percent * 5.0, "measuring took {share} %, the limit is {} %", limit.percent);
            ensure!(limit.windows > 0, "there were no windows");
            Ok(())
        },
    ),
    plain(
        "a load that costs less than the limit is measured whole",
        Kernels::Reference,
        60,
        "prefault --json --max-overhead 90 -o counted.json -- sh -c 'pace --batches 20 /mnt/tmpfs; echo 21 >> batches'\n",
        |said, _| {
            let document: Document = said.json("counted.json")?;
            document.expect_no_loss()?;
            let limit = document.limit.as_ref().context("there is no limit")?;
            ensure!((limit.windows, limit.open_share) == (0, 1.0), "{limit:?}");
            let tmpfs = document.filesystem("tmpfs")?;
            let expected = 21.0 * WRITES_PER_BATCH;
            ensure!(tmpfs.write.calls as f64 >= expected, "{} writes, expected {expected}", tmpfs.write.calls);
            Ok(())
        },
    ),
];

/// The limit of the document, kept and with estimates that hold so many writes of so many bytes.
fn limit(said: &Said, writes: f64, bytes: f64) -> Result<Limit> {
    said.expect_code(0)?;
    let document: Document = said.json("counted.json")?;
    document.expect_no_loss()?;
    let limit = document.limit.context("there is no limit")?;
    let share = limit.cost_share * 100.0;
    ensure!(share <= limit.percent * TOLERANCE, "measuring took {share} %, the limit is {} %", limit.percent);
    // The two filesystems of type tmpfs that are written to are the guest's own root and this one, by far the busier.
    let busiest = limit.estimates.iter().max_by(|one, other| one.writes.total.total_cmp(&other.writes.total));
    let busiest = busiest.context("nothing was estimated")?;
    for (name, estimate, truth) in [
        ("writes", busiest.writes, writes),
        ("bytes", busiest.bytes, writes * bytes),
        ("copies", busiest.copies, writes * (bytes / BYTES)),
    ] {
        if limit.counted_gap_share >= 1.0 {
            // Each write is one call, of the same length, and as many copies.
            ensure!((estimate.total - truth).abs() < 0.5, "{} {name}, were {truth}", estimate.total);
            continue;
        }
        let allowed = match estimate.standard_error {
            Some(error) => {
                ensure!(error < truth / 4.0, "{} {name} with an error of {error} say nothing", estimate.total);
                ERRORS * error
            }
            // There were too few gaps without counting to know how they differ: no more can be wrong than what was in them.
            None => truth * 2.0 * (1.0 - limit.counted_gap_share),
        };
        let off = (estimate.total - truth).abs();
        ensure!(off <= allowed, "{} {name}, may be off by {allowed}, were {truth}", estimate.total);
    }
    Ok(limit)
}
