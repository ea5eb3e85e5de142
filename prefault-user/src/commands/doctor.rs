//! `prefault doctor`: what can be measured here and how, what is missing, and the remedy.

pub mod describe;
pub mod diagnosis;
mod facts;
pub mod planned;
mod tried;

use std::{collections::HashSet, fs, path::Path};

use anyhow::Result;

use self::diagnosis::{Diagnosis, Slots};
use crate::{
    cli::DoctorArgs,
    data::{Code, Problem, Timing},
    host::{
        clock::usable,
        environment::{Obstacle, obstacles},
    },
    kernel,
    monitor::{prepare, problems},
    output::sink::{Output, say},
    phases::Phases,
};

/// Prints the diagnosis; the exit code is 1 if the main job cannot run.
///
/// # Errors
/// If the output cannot be written.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let mut output = Output::open(None)?;
    if args.facts {
        let kernel = prepare::facts(&Phases::begin())?;
        output.write(&format!("{}\n", serde_json::to_string_pretty(&facts::frozen(&kernel)?)?))?;
        return Ok(0);
    }
    let diagnosis = diagnose(args);
    if args.json {
        output.write(&format!("{}\n", serde_json::to_string_pretty(&diagnosis)?))?;
    } else {
        let not_shown = diagnosis.remarks_of(&[Code::PointsNotShown, Code::CostNotShown]);
        not_shown.for_each(|remark| say(&remark.line()));
        output.write(&describe::text(&diagnosis))?;
    }
    Ok(if diagnosis.ready { 0 } else { 1 })
}

/// Filesystems that are mounted on the host, or here if those of the host are hidden; 0 if neither is shown.
fn n_mounted() -> usize {
    let tables = ["/proc/1/mountinfo", "/proc/self/mountinfo"];
    let table = tables.into_iter().find_map(|table| fs::read(table).ok()).unwrap_or_default();
    // The third field is the device number (proc_pid_mountinfo(5)).
    let devices = table.split(|&byte| byte == b'\n').filter_map(|line| line.split(|&byte| byte == b' ').nth(2));
    devices.collect::<HashSet<_>>().len()
}

fn diagnose(args: &DoctorArgs) -> Diagnosis {
    let root = Path::new(prepare::ROOT);
    let slots = Slots { available: args.slots, mounted: n_mounted() as u64 };
    let diagnosis = Diagnosis::new(kernel::release(root).ok(), slots, usable(Timing::All).coarse_step_ns());
    let obstacles: Vec<Problem> = obstacles(root).iter().map(Obstacle::problem).collect();
    if !obstacles.is_empty() {
        return Diagnosis { obstacles, ..diagnosis };
    }
    match tried::attached_plan(args) {
        Ok(tried) => tried.complete(diagnosis),
        Err(error) => Diagnosis { obstacles: vec![problems::any(&error)], ..diagnosis },
    }
}
