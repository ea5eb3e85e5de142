//! `prefault export`: measure until told to stop, and answer Prometheus.
//!
//! One thread. The session is tended in one loop, which also answers what the connections ask; each connection is a task
//! beside it. What cannot go on later (an address in use, a wrong web config) is refused before anything is measured; what
//! fails later is said once and does not end measuring.

pub mod access;
pub mod address;
pub mod answer;
pub mod auth;
mod complaints;
mod confine;
mod negotiate;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod server;
mod service;
mod state;
pub mod textfile;
pub mod web_config;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Interval as Ticker, sleep},
};

pub use self::address::Address;
use self::{
    access::AccessWatch,
    address::{DEFAULT_PORT, Listener},
    answer::{Ask, Shared},
    complaints::{Complaints, say},
    state::State,
    textfile::Textfile,
    web_config::WebConfig,
};
use super::{
    filters::filters,
    live::{Live, options, tick, ticker},
    output::{Output, is_closed_pipe},
};
use crate::{
    cli_export::ExportArgs,
    output::{exposition::Buckets, security},
};

/// Questions that may wait for an answer at once: as many as there are connections.
const QUESTIONS: usize = 64;

/// Threads for hashes of passwords, which are computed one at a time.
const BLOCKING_THREADS: usize = 1;

/// After something has gone wrong.
const PAUSE: Duration = Duration::from_millis(50);

/// Exports as `args` say; the result is the exit code.
///
/// # Errors
/// If it cannot begin.
pub fn run(args: &ExportArgs) -> Result<u8> {
    if args.counting.verbose {
        env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
    }
    if let (true, Some(path)) = (args.check_web_config, &args.web_config) {
        let said = format!("the web config is right: {}\n", describe(&WebConfig::read(path)?));
        return match Output::open(None)?.write(&said) {
            Err(error) if !is_closed_pipe(&error) => Err(error),
            _ => Ok(0),
        };
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(export(args))?;
    Ok(0)
}

fn describe(web_config: &WebConfig) -> String {
    let tls = if web_config.tls.is_some() { "TLS" } else { "no TLS" };
    format!("{tls}, {} users", web_config.users.len())
}

async fn export(args: &ExportArgs) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let access = AccessWatch::begin(args.web_config.as_deref())?;
    let listeners = listeners(args)?;
    let options = options(&args.counting, filters(&args.filters, false)?, false);
    let live = Live::begin(&options)?;
    let left = confine::confine(args, &access)?;
    if args.privileges.print_security {
        print!("{}", security::text(&left));
        return Ok(());
    }
    log::info!("what this process may still do:\n{}", security::text(&left));
    let receiver = access.subscribe();
    let scheme = if receiver.borrow().tls.is_some() { "https" } else { "http" };
    let mut exporter = Exporter::begin(live, access, args)?;
    let places: Vec<String> = listeners.iter().map(|listener| place(listener, scheme)).collect();
    let (asks, questions) = mpsc::channel(QUESTIONS);
    #[cfg(feature = "otlp")]
    if let Some(endpoint) = args.otlp.clone() {
        tokio::spawn(otlp::push(endpoint, args.otlp_interval, asks.clone()));
    }
    let shared = Shared { asks, access: receiver, buckets: exporter.buckets.clone() };
    let server = server::serve(listeners, Arc::new(shared));
    exporter.greet(&places);
    tokio::select! {
        () = exporter.run(questions) => {}
        () = server => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service::stopping();
    Ok(())
}

/// Opens what is to be answered at: what was asked for, and what systemd passed.
fn listeners(args: &ExportArgs) -> Result<Vec<Listener>> {
    let mut listeners = address::passed()?;
    let default = [Address::Localhost(DEFAULT_PORT)];
    let addresses = match args.listen.is_empty() && listeners.is_empty() && args.textfile.is_none() {
        true => &default[..],
        false => &args.listen,
    };
    for address in addresses {
        listeners.extend(address.bind()?);
    }
    Ok(listeners)
}

fn place(listener: &Listener, scheme: &str) -> String {
    match listener {
        Listener::Tcp(_) => format!("{scheme}://{listener}/metrics"),
        Listener::Unix(..) => listener.to_string(),
    }
}

/// An exporter that runs.
struct Exporter<'a> {
    args: &'a ExportArgs,
    live: Live,
    access: AccessWatch,
    state: State,
    buckets: Buckets,
    textfile: Option<Textfile>,
    textfile_ticker: Option<Ticker>,
    watchdog: Option<Ticker>,
    complaints: Complaints,
}

impl<'a> Exporter<'a> {
    fn begin(live: Live, access: AccessWatch, args: &'a ExportArgs) -> Result<Self> {
        let mut exporter = Self {
            args,
            access,
            state: State::new(&live, args)?,
            buckets: args.buckets.clone().unwrap_or_default(),
            textfile: args.textfile.as_deref().map(Textfile::new),
            textfile_ticker: args.textfile.is_some().then(|| ticker(args.interval)),
            watchdog: service::watchdog(),
            complaints: Complaints::default(),
            live,
        };
        // What cannot be written at the begin is wrong; later it may be a full disk.
        exporter.write_textfile()?;
        Ok(exporter)
    }

    /// Tells people and systemd that it is on.
    fn greet(&self, places: &[String]) {
        let sites = self.live.plan().n_measured();
        let textfile = self.args.textfile.iter().map(|path| path.display().to_string());
        let places: Vec<String> = places.iter().cloned().chain(textfile).collect();
        let status = format!("measuring at {sites} call sites of {}; {}", self.live.kernel(), places.join(" "));
        say(&status);
        service::ready(&status);
    }

    /// Tends the session and answers questions until the future is dropped.
    async fn run(&mut self, mut questions: mpsc::Receiver<Ask>) {
        loop {
            let result = tokio::select! {
                // Events are not wanted, and none come.
                events = self.live.tend() => events.map(drop),
                Some(ask) = questions.recv() => {
                    self.answer(ask);
                    Ok(())
                }
                () = self.access.due() => self.access.look(),
                () = tick(&mut self.textfile_ticker) => self.write_textfile(),
                () = tick(&mut self.watchdog) => {
                    service::alive();
                    Ok(())
                }
            };
            if let Err(error) = result {
                self.complaints.say_once(&error);
                // What fails again at once must not take the processor.
                sleep(PAUSE).await;
            }
        }
    }

    fn answer(&mut self, ask: Ask) {
        let exported = self.state.exported(&self.live, &self.args.series);
        if let Err(error) = &exported {
            self.complaints.say_once(error);
        }
        // Whoever asked may have gone.
        let _unused = ask.send(exported.map_err(|error| format!("{error:#}")));
    }

    fn write_textfile(&mut self) -> Result<()> {
        let Some(textfile) = &self.textfile else { return Ok(()) };
        textfile.write(&self.state.exported(&self.live, &self.args.series)?, &self.buckets)
    }
}
