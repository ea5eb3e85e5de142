//! Latencies without the floor, against instructions that were counted one by one: on a processor whose clock counts
//! instructions, the mean of a prefault or a copy has to be what its function executes.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{
    document::{Bucket, Document, total},
    guest::{Guest, Said, Step},
    report::Report,
};
use crate::{bench::profile, export::http::free_port, paths, vm::Machine};

/// What the points add is measured where only moves are between them; here there is a call too.
const TOLERANCE: f64 = 0.1;

/// Kernels on which a prefault and a copy run, and on which a copy runs alone.
const SERIES: [&str; 2] = ["6.12", "6.18"];

/// Of the guest's time, which runs ahead while it waits for the host.
const LIMIT: Duration = Duration::from_secs(2000);
const SLUG: &str = "counted";
const CALLER: &str = "generic_perform_write";
const PREFAULT: &str = "fault_in_iov_iter_readable";
/// The second, before 6.14 (KERNEL.md of the design: names of the copy).
const COPIES: [&str; 2] = ["copy_folio_from_iter_atomic", "copy_page_from_iter_atomic"];

/// The guest for one kernel, if its case is wanted.
///
/// # Errors
/// When no port is free.
pub fn guest(series: &str, report: &Report) -> Result<Option<Guest>> {
    let name = format!("{series} latencies without the floor are what was executed");
    if !SERIES.contains(&series) || !report.wants(&name) {
        return Ok(None);
    }
    let port = free_port()?;
    let machine = Machine { icount: true, debugger: Some(port), ..Machine::new(series.parse()?) };
    let step = Step {
        slug: SLUG.to_owned(),
        script: profile::SCRIPT.to_owned(),
        limit: LIMIT,
        checks: vec![(name, Box::new(judge))],
    };
    Ok(Some(Guest {
        machine,
        name: format!("{series} {SLUG}"),
        filesystems: Vec::new(),
        steps: vec![step],
        companion: Some(Box::new(move |share| accompany(share, port))),
    }))
}

/// Counts, and leaves the numbers, or what went wrong, to the judge.
fn accompany(share: &Path, port: u16) {
    let said = count(share, port).unwrap_or_else(|error| format!("{error:#}"));
    // Without it the judge says that there is none.
    let _unused = paths::write(&share.join("steps").join(format!("00-{SLUG}")).join("executed"), said);
}

fn count(share: &Path, port: u16) -> Result<String> {
    let profile = profile::follow_from(share, port)?;
    let copy = COPIES.into_iter().find(|name| profile.symbols.address_of(name).is_ok());
    let copy = copy.ok_or_else(|| anyhow!("the kernel has no copy"))?;
    let executed: BTreeMap<&str, Vec<usize>> =
        [("prefault", profile.inside(PREFAULT, CALLER)?), ("copy", profile.inside(copy, CALLER)?)].into();
    Ok(serde_json::to_string(&executed)?)
}

fn judge(said: &Said) -> Result<()> {
    said.expect_code(0)?;
    let executed = said.file("executed")?;
    let executed: BTreeMap<String, Vec<u64>> =
        serde_json::from_str(&executed).map_err(|_| anyhow!("counting failed: {executed}"))?;
    let document: Document = said.json("counted.json")?;
    let floor = document.floor.as_ref().and_then(|floor| floor.jump_ns).context("the floor was not measured")?;
    let busiest = document.filesystems.iter().max_by_key(|filesystem| filesystem.write.calls);
    let busiest = busiest.context("nothing was counted")?;
    let latencies = [
        ("prefault", busiest.prefault.sum_ns, &busiest.prefault.buckets),
        ("copy", busiest.copy.sum_ns, &busiest.copy.buckets),
    ];
    let mut n_compared = 0;
    for (operation, sum_ns, buckets) in latencies {
        let [executed] = executed[operation][..] else { continue };
        compare(operation, executed as f64, mean(sum_ns, buckets) - floor as f64)?;
        n_compared += 1;
    }
    ensure!(n_compared > 0, "neither the prefault nor the copy was counted");
    Ok(())
}

/// Mean of the latencies that no interrupt is in: one of 3,500 instructions among 1,200 prefaults is 3 of the 65 that a prefault
/// executes. Those beyond twice the busiest bucket are taken out of the sum, each as the middle of its bucket, which is by far near
/// enough.
fn mean(sum_ns: u64, buckets: &[Bucket]) -> f64 {
    let bound = |bucket: &Bucket| bucket.le_ns.unwrap_or(u64::MAX) as f64;
    let usual = buckets.iter().max_by_key(|bucket| bucket.count).map_or(f64::INFINITY, bound);
    let interrupted = buckets.iter().filter(|bucket| bound(bucket) > 2.0 * usual);
    // Four buckets are a factor of two.
    let middle = f64::midpoint(1.0, 0.5_f64.powf(0.25));
    let (n_interrupted, ns) = interrupted
        .fold((0, 0.0), |(n, ns), bucket| (n + bucket.count, ns + bucket.count as f64 * bound(bucket) * middle));
    (sum_ns as f64 - ns) / (total(buckets) - n_interrupted).max(1) as f64
}

fn compare(operation: &str, executed: f64, corrected: f64) -> Result<()> {
    let off = corrected / executed - 1.0;
    ensure!(
        off.abs() <= TOLERANCE,
        "the {operation} executes {executed} instructions; without the floor its mean is {corrected:.1} ns, {:+.1} %",
        100.0 * off
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Bucket, mean};

    #[test]
    fn an_interrupt_is_not_in_the_mean() {
        let bucket = |le_ns, count| Bucket { le_ns: Some(le_ns), count };
        let with_interrupt = mean(1199 * 438 + 3500, &[bucket(476, 1199), bucket(3814, 1)]);
        assert!((with_interrupt - 438.0).abs() < 0.5, "{with_interrupt}");
        assert!((mean(438 + 500, &[bucket(476, 1), bucket(565, 1)]) - 469.0).abs() < 1e-9);
    }
}
