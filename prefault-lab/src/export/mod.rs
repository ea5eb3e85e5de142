//! The exporter end to end: it runs in a guest under a load that knows what it does, Prometheus servers on this machine scrape
//! it through a forwarded port, and what PromQL says has to be what the load knows.

pub mod http;
mod judge;
mod prometheus;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use self::prometheus::{Prometheus, Scrapes};
use super::{
    guest::{Guest, SLACK, Step},
    matrix::{
        filesystems::{self, Group},
        kernels::{SPREAD, Version},
    },
    report::Report,
};
use crate::{
    paths,
    vm::{Machine, Series},
};

const SCRIPT: &str = include_str!("guest.sh");
/// Where the exporter answers in the guest: its default port.
const PORT: u16 = 29186;
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// For the guest to boot and to make its filesystems, and for each part of the load, on any machine.
const LIMIT: Duration = Duration::from_secs(150 * SLACK as u64);
const STEP_LIMIT: Duration = Duration::from_secs(300);

/// The guest for one kernel, if its case is wanted.
///
/// # Errors
/// When no port is free.
pub fn guest(series: &str, version: Version, report: &Report) -> Result<Option<Guest>> {
    let name = format!("{series} export to Prometheus");
    if !SPREAD.contains(&series) || !report.wants(&name) {
        return Ok(None);
    }
    let port = http::free_port()?;
    let kernel: Series = series.parse()?;
    let machine = Machine { forward: Some((port, PORT)), ..Machine::new(kernel) };
    let step = Step {
        slug: "export".to_owned(),
        script: SCRIPT.to_owned(),
        limit: STEP_LIMIT,
        checks: vec![(name, Box::new(judge::judge))],
    };
    Ok(Some(Guest {
        machine,
        name: format!("{series} export"),
        filesystems: filesystems::scripts(Group::Core, version),
        steps: vec![step],
        companion: Some(Box::new(move |share| accompany(share, port))),
    }))
}

/// Does this machine's part; whatever goes wrong is left in a file for the judge.
fn accompany(share: &Path, port: u16) {
    let result = ask(share, port);
    let verdict = result.map_or_else(|error| format!("{error:#}"), |()| "done".to_owned());
    // Without it the guest's step times out, which is said.
    let _unused = paths::write(&step_directory(share).join("host"), verdict);
}

fn step_directory(share: &Path) -> PathBuf {
    share.join("steps/00-export")
}

fn ask(share: &Path, port: u16) -> Result<()> {
    let step = step_directory(share);
    wait_for_file(&step.join("serving"))?;
    // Not in the shared directory: the guest would see the files change.
    let directory = paths::target("prometheus/runs").join(format!("{}-{port}", std::process::id()));
    let classic = Prometheus::start(&directory.join("classic"), port, Scrapes::Classic)?;
    let native = Prometheus::start(&directory.join("native"), port, Scrapes::Native)?;
    for server in [&classic, &native] {
        server.wait_for("up", 1.0, LIMIT)?;
    }
    for round in [1, 2] {
        paths::write(&step.join(format!("load-{round}")), "")?;
        wait_for_file(&step.join(format!("loaded-{round}")))?;
        judge::after_round(&step, port, round, &classic, &native)?;
    }
    drop((classic, native));
    paths::remove_dir(&directory)
}

fn wait_for_file(path: &Path) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !path.exists() {
        if Instant::now() >= deadline {
            bail!("the guest did not write {} in time", path.display());
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
