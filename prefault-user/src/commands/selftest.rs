//! `prefault selftest`: known writes to the filesystems of this host, counted and compared.
//!
//! Safe on a production host: it changes no setting, touches no other process, and measures only its own thread.

mod places;
mod row;

use std::{path::Path, process, thread};

use anyhow::{Result, anyhow, ensure};
use clap::ValueEnum as _;

use self::{
    places::{Place, places},
    row::{Counts, Row},
};
use crate::{
    bpf::{
        filters::Filters,
        session::{Options, Session},
    },
    cli::SelftestArgs,
    data::{Interval, LossUnit, Snapshot, Timing, silence::SILENCES},
    host::limits::why_no_thread,
    monitor::{filters::ensure_process_ids, options::wish, prepare},
    output::{
        sink::{Output, is_closed_pipe},
        units,
    },
    phases::Phases,
    workload::{self, Kind, Truth},
};

/// Name of the thread that writes: nothing else of this process is measured.
const WRITER: &str = "prefault-writer";

/// Writes of one kind to one folder. No file becomes larger than 20 MiB.
const WRITES: u64 = 200;

/// Runs the self-test; the exit code is 1 if a count differs.
///
/// # Errors
/// If it cannot run: no folder can be written to, or nothing can be measured here.
pub fn run(args: &SelftestArgs) -> Result<u8> {
    match compare_all(args) {
        Err(error) if is_closed_pipe(&error) => Ok(0),
        result => result,
    }
}

fn compare_all(args: &SelftestArgs) -> Result<u8> {
    let mut output = Output::open(None)?;
    ensure_process_ids("prefault selftest")?;
    let chosen = places(&args.folders)?;
    for why in &chosen.refused {
        eprintln!("prefault: not tested: {why}");
    }
    ensure!(
        !chosen.places.is_empty(),
        "no folder to write to was found: name one, such as `prefault selftest /var/tmp`"
    );
    prepare::check()?;
    let phases = Phases::begin();
    let (kernel, plan, groundwork) = prepare::plan_and_groundwork(wish(args.mechanism), &phases)?;
    let filters = Filters { processes: vec![process::id()], comms: vec![WRITER.into()], ..Filters::default() };
    let wish = wish(args.mechanism);
    let options = Options { filters, wish, timing: Timing::wished(None, args.no_latency), ..Options::default() };
    let session = Session::start(plan, groundwork, &options, &phases).map_err(prepare::explain)?;
    output.write(&format!(
        "self-test on {kernel}, seed {}\n\n{:<34} {:<9} {:>7} {:>12} {:>7} {:>7}   {:>5}  {}\n",
        args.seed, "FOLDER", "WRITES", "CALLS", "BYTES", "ERRORS", "ABSENT", "LOST", "VERDICT"
    ))?;
    let mut differences = 0;
    for place in &chosen.places {
        for &kind in Kind::value_variants() {
            let row = compare(&session, place, kind, args.seed)?;
            differences += u64::from(!row.is_exact());
            output.write(&row.to_string())?;
        }
    }
    let silenced = session.counters().sight().look();
    for row in SILENCES.iter().filter(|row| silenced.ns[row.silence as usize] > 0) {
        let time = units::duration(silenced.ns[row.silence as usize] as f64);
        output.write(&format!("\n{time} {}; to try again: {}\n", row.phrase, row.remedy))?;
    }
    output.write(&match differences {
        0 => "\nall counts are exact\n".to_owned(),
        n => format!("\n{n} counts differ; please report this with the output of `prefault doctor --facts`\n"),
    })?;
    Ok(u8::from(differences > 0))
}

fn compare(session: &Session, place: &Place, kind: Kind, seed: u64) -> Result<Row> {
    let before = session.snapshot(0);
    let truth = write_in_thread(&place.folder, kind, seed)?;
    let interval = difference(session, &before)?;
    Ok(Row {
        place: place.to_string(),
        kind,
        truth,
        counted: Counts::of_interval(&interval),
        // Times are told at the end.
        lost: interval
            .loss
            .entries()
            .filter(|entry| entry.unit != LossUnit::Nanoseconds)
            .map(|entry| entry.count)
            .sum(),
    })
}

fn difference(session: &Session, before: &Snapshot) -> Result<Interval> {
    Ok(Interval::between(before, &session.snapshot(0), &session.plan().path_names())?)
}

fn write_in_thread(folder: &Path, kind: Kind, seed: u64) -> Result<Truth> {
    let folder = folder.to_owned();
    let writer = thread::Builder::new().name(WRITER.to_owned());
    let writer = writer.spawn(move || workload::write_all(kind, WRITES, seed, &folder));
    let writer = writer.map_err(|error| anyhow!(why_no_thread(&error)))?;
    writer.join().map_err(|_| anyhow!("the thread that writes panicked"))?
}
