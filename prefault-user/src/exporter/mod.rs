//! `prefault export`: measure until told to stop, and answer Prometheus.
//!
//! Two threads. One tends the session; the other has a loop that answers what the connections ask, each of which is a task
//! beside it. What cannot go on later (an address in use, a wrong web config) is refused before anything is measured; what
//! fails later is said once and does not end measuring.

pub mod access;
pub mod address;
pub mod answer;
pub mod auth;
pub mod client;
mod confine;
mod connections;
mod encoding;
pub mod hashing;
mod log_once;
mod negotiate;
mod newcomer;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod privilege;
pub mod server;
mod service;
mod session_thread;
mod state;
pub mod textfile;
pub mod web_config;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::Interval as Ticker,
};

use self::{
    access::AccessWatch,
    address::Listener,
    answer::{Ask, Shared},
    confine::Confining,
    log_once::{LogOnce, say},
    service::ServiceManager,
    session_thread::SessionThread,
    state::State,
    textfile::Textfile,
};
use crate::{
    cli::{
        address::{Address, DEFAULT_PORT},
        export::ExportArgs,
    },
    monitor::{
        filters::filters,
        live::{Live, tick, ticker},
        options::options,
    },
    output::{exposition::Buckets, security, sink::write_once},
};

/// Questions that may wait for an answer at once: as many as there are connections.
const QUESTIONS: usize = 64;

/// Descriptors that the exporter needs itself: as many connections as there can be, one that is still refused, sockets, the files
/// of the web config, what it waits with.
const DESCRIPTORS: u64 = 64 + 24;

/// Threads for what takes its time, one for each kind: hashes of passwords, the files of the web config, and names that are looked
/// up for a collector.
const BLOCKING_THREADS: usize = 3;

/// What the exporter runs in.
///
/// # Errors
/// If the kernel has no descriptors for it.
pub fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build().context("failed to start the runtime")
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
        listeners.extend(address::bind(address)?);
    }
    Ok(listeners)
}

fn place(listener: &Listener, scheme: &str) -> String {
    match listener {
        Listener::Tcp(_) => format!("{scheme}://{listener}/metrics"),
        Listener::Unix(..) => listener.to_string(),
    }
}

/// An exporter that measures.
pub struct Exporter<'a> {
    args: &'a ExportArgs,
    listeners: Vec<Listener>,
    terminate: Signal,
    interrupt: Signal,
    tended: SessionThread,
    answerer: Answerer<'a>,
}

impl<'a> Exporter<'a> {
    /// Begins, giving up privileges in between; `None` if that was only to be shown. The thread of the session is started
    /// after that, so that it has none of them either.
    ///
    /// # Errors
    /// If it cannot begin.
    pub fn begin(args: &'a ExportArgs, buckets: Buckets) -> Result<Option<Self>> {
        let terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
        let access = AccessWatch::begin(args.web_config.as_deref())?;
        let listeners = match args.privileges.print_security && args.listen.is_empty() {
            // The exporter whose state it is may be running.
            true => Vec::new(),
            false => listeners(args)?,
        };
        let confining = Confining::prepare(args, &access)?;
        let service_manager = ServiceManager::find();
        let options = options(&args.counting, filters(&args.filters, false)?, args.exemplars, DESCRIPTORS);
        let session_runtime = runtime()?;
        let live = {
            let _entered = session_runtime.enter();
            Live::begin(&options)?
        };
        let left = confining.apply()?;
        if args.privileges.print_security {
            write_once(&security::text(&left))?;
            return Ok(None);
        }
        log::info!("what this process may still do:\n{}", security::text(&left));
        confining.warnings(&left).iter().for_each(|warning| say(warning));
        let n_sites = live.plan().n_measured();
        let tended = SessionThread::begin(live, session_runtime)?;
        let mut answerer = Answerer {
            args,
            access,
            state: State::new(&tended, args),
            buckets,
            textfile: args.textfile.as_deref().map(Textfile::new),
            textfile_ticker: args.textfile.is_some().then(|| ticker(args.interval)),
            service_manager,
            complaints: LogOnce::default(),
        };
        // What cannot be written at the begin is wrong; later it may be a full disk.
        answerer.write_textfile(&tended)?;
        let exporter = Self { args, listeners, terminate, interrupt, tended, answerer };
        exporter.greet(n_sites, left.uid);
        Ok(Some(exporter))
    }

    /// Tells people and systemd that it is on.
    fn greet(&self, n_sites: usize, uid: u32) {
        let scheme = if self.answerer.access.subscribe().borrow().tls.is_some() { "https" } else { "http" };
        let textfile = self.args.textfile.iter().map(|path| path.display().to_string());
        let places: Vec<String> =
            self.listeners.iter().map(|listener| place(listener, scheme)).chain(textfile).collect();
        let kernel = &self.tended.kernel;
        let status = format!("measuring at {n_sites} call sites of {kernel} as user {uid}; {}", places.join(" "));
        say(&status);
        self.answerer.service_manager.tell_ready(&status);
    }

    /// Answers until told to stop.
    ///
    /// # Errors
    /// If the session is no longer tended.
    pub async fn serve(mut self) -> Result<()> {
        let (asks, questions) = mpsc::channel(QUESTIONS);
        #[cfg(feature = "otlp")]
        if let Some(endpoint) = self.args.otlp.clone() {
            tokio::spawn(otlp::push(endpoint, self.args.otlp_interval, asks.clone()));
        }
        let shared = Shared { asks, access: self.answerer.access.subscribe(), buckets: self.answerer.buckets.clone() };
        let server = server::serve(self.listeners, Arc::new(shared));
        let ended = tokio::select! {
            error = self.answerer.run(&mut self.tended, questions) => Err(error),
            () = server => Ok(()),
            _ = self.terminate.recv() => Ok(()),
            _ = self.interrupt.recv() => Ok(()),
        };
        self.answerer.service_manager.tell_stopping();
        ended
    }
}

/// Answers, and does what is to be done from time to time.
struct Answerer<'a> {
    args: &'a ExportArgs,
    access: AccessWatch,
    state: State,
    buckets: Buckets,
    textfile: Option<Textfile>,
    textfile_ticker: Option<Ticker>,
    service_manager: ServiceManager,
    complaints: LogOnce,
}

impl Answerer<'_> {
    /// Answers questions until the session is no longer tended.
    async fn run(&mut self, tended: &mut SessionThread, mut questions: mpsc::Receiver<Ask>) -> anyhow::Error {
        loop {
            let result = tokio::select! {
                error = tended.ended() => return error,
                Some(ask) = questions.recv() => {
                    self.answer(tended, ask);
                    Ok(())
                }
                read = self.access.follow() => read,
                () = tick(&mut self.textfile_ticker) => self.write_textfile(tended),
                () = self.service_manager.due() => {
                    self.service_manager.tell_alive(tended.idle());
                    Ok(())
                }
            };
            if let Err(error) = result {
                self.complaints.say_once(&error);
            }
        }
    }

    fn answer(&mut self, tended: &SessionThread, ask: Ask) {
        let exported = self.state.exported(tended, &self.args.series);
        if let Err(error) = &exported {
            self.complaints.say_once(error);
        }
        // Whoever asked may have gone.
        let _unused = ask.send(exported.map_err(|error| format!("{error:#}")));
    }

    fn write_textfile(&mut self, tended: &SessionThread) -> Result<()> {
        let Some(textfile) = &self.textfile else { return Ok(()) };
        textfile.write(&self.state.exported(tended, &self.args.series)?, &self.buckets)
    }
}
