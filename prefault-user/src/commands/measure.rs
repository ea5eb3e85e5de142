//! `prefault`: measure until told to stop, with a table or a document of each interval, and a report at the end.

mod child;
mod showing;

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
};

use self::showing::Measurement;
use crate::{
    cli::MeasureArgs,
    monitor::{
        filters::filters,
        live::{Live, tick},
        options::options,
    },
    output::sink::{Output, is_closed_pipe},
};

/// Exit code of a measurement during which points were silenced.
const SILENCED: u8 = 3;

/// Measures as `args` say; the result is the exit code.
///
/// # Errors
/// If measuring cannot begin or the output cannot be written.
pub fn run(args: &MeasureArgs) -> Result<u8> {
    super::log_if(args.counting.verbose);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(measure(args)) {
        Err(error) if is_closed_pipe(&error) => Ok(0),
        result => result,
    }
}

async fn measure(args: &MeasureArgs) -> Result<u8> {
    let mut output = Output::open(args.output.as_deref())?;
    let stop = Stop::listen(args.duration)?;
    // From here on it does not end this process any more.
    let marks = signal(SignalKind::user_defined1()).context("failed to listen for SIGUSR1")?;
    // Nothing else shows single events.
    let filters = filters(&args.filters, !args.command.is_empty())?;
    let options = options(&args.counting, filters, args.events || args.json, 0);
    let mut measurement = Measurement::begin(Live::begin(&options)?, args);
    measurement.greet();
    let follows_command = options.filters.follow && options.filters.processes.is_empty();
    let mut child = child::spawn(&mut measurement.live, &args.command, follows_command)?;
    let outcome = follow(&mut measurement, stop, marks, &mut child, &mut output).await;
    if let (Err(_), Some(child)) = (&outcome, &mut child) {
        // As whatever else ends measuring does; that it failed is said by the outcome.
        let _unused = child::end(child).await;
    }
    // Whatever ended it, what was counted is shown.
    let last = measurement.finish(&mut output);
    let exit_code = outcome?;
    last?;
    // What a command says itself comes first.
    Ok(if exit_code == 0 && measurement.was_silenced { SILENCED } else { exit_code })
}

/// Shows intervals and takes events until something ends the measurement; the result is the exit code.
async fn follow(
    measurement: &mut Measurement,
    mut stop: Stop,
    mut marks: Signal,
    child: &mut Option<Child>,
    output: &mut Output,
) -> Result<u8> {
    let stopped = stop.wait(child.is_some());
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            events = measurement.live.tend() => measurement.pass_on_events(events?, output)?,
            () = tick(&mut measurement.ticker) => measurement.end_interval(output)?,
            _ = marks.recv() => measurement.end_interval(output)?,
            status = child::exited(child) => return Ok(child::exit_code(status?)),
            () = &mut stopped => {
                if let Some(child) = child {
                    child::end(child).await.context("failed to end the command")?;
                }
                return Ok(0);
            }
        }
    }
}

/// What ends a measurement from outside.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    duration: Option<Duration>,
}

impl Stop {
    fn listen(duration: Option<Duration>) -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        Ok(Self { interrupt, terminate, duration })
    }

    /// Waits for a signal or the end of the duration. With a child, an interrupt is for the child too, and its end is
    /// waited for.
    async fn wait(&mut self, with_child: bool) {
        let duration = self.duration;
        let over = async move {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => if !with_child { return },
            }
        }
    }
}
