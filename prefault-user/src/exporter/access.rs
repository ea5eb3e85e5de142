//! Who may ask and how, by the web config, which is read again when one of its files has changed: certificates are renewed
//! while the exporter runs.
//!
//! Files are looked at and read on a thread of their own, since a file server that hangs holds up who looks. What would protect
//! less than before is not used: see `web_config/protection.rs`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use hyper::header::{HeaderName, HeaderValue};
use ring::digest::Digest;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, Interval as Ticker, sleep_until},
};
use tokio_rustls::TlsAcceptor;

use super::{
    auth::{Auth, Logins},
    web_config::{Protection, Reading, Stamps, WebConfig},
};
use crate::monitor::live::{tick, ticker};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// After so long it is said that they cannot be looked at.
const READING_LIMIT: Duration = Duration::from_secs(10);

/// How connections are taken and who may ask.
#[derive(Clone, Default)]
pub struct Access {
    /// TLS, if connections are encrypted.
    pub tls: Option<TlsAcceptor>,
    /// Users, if not everybody may ask.
    pub auth: Option<Arc<Auth>>,
    /// Headers of every answer.
    pub headers: Arc<[(HeaderName, HeaderValue)]>,
}

impl Access {
    fn new(config: WebConfig, logins: &Arc<Logins>) -> Self {
        Self { tls: config.tls, auth: Auth::new(config.users, logins), headers: config.headers.into() }
    }
}

/// Keeps the access up to date with its files.
pub struct AccessWatch {
    path: Option<PathBuf>,
    files: Stamps,
    digest: Option<Digest>,
    protection: Protection,
    ticker: Option<Ticker>,
    reading: Option<Look>,
    logins: Arc<Logins>,
    access: watch::Sender<Access>,
}

/// A look at the files that is under way.
struct Look {
    /// `None` if nothing has changed.
    thread: JoinHandle<Option<Reading>>,
    /// When it is to be said that it takes long, `None` if it was.
    overdue: Option<Instant>,
}

impl AccessWatch {
    /// Reads the web config at `path`; everybody may ask if there is none. It has to be called within a tokio runtime.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn begin(path: Option<&Path>) -> Result<Self> {
        let reading = path.map(WebConfig::read);
        let (files, digest) = reading.as_ref().map(|reading| (reading.files.clone(), reading.digest)).unzip();
        let config = reading.map(|reading| reading.config).transpose()?.unwrap_or_default();
        let logins = Logins::new()?;
        Ok(Self {
            path: path.map(Path::to_owned),
            files: files.unwrap_or_default(),
            digest,
            protection: config.protection.clone(),
            ticker: path.map(|_| ticker(INTERVAL)),
            reading: None,
            access: watch::Sender::new(Access::new(config, &logins)),
            logins,
        })
    }

    /// The access as it is at any time.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Access> {
        self.access.subscribe()
    }

    /// The files that it is made of, which are read again.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.paths()
    }

    /// Waits until the files are to be looked at, looks, and reads them again if one has changed; for ever if there are none.
    /// Connections that are open end then, after what is being answered. Nothing is lost of it if nobody waits for it to end.
    ///
    /// # Errors
    /// If they are wrong now, protect less, or cannot be read for long; the access then stays as it was.
    pub async fn follow(&mut self) -> Result<()> {
        let Some(path) = &self.path else { return std::future::pending().await };
        if self.reading.is_none() {
            tick(&mut self.ticker).await;
        }
        let look = self.reading.get_or_insert_with(|| {
            let (path, files) = (path.clone(), self.files.clone());
            let look = move || files.may_have_changed().then(|| WebConfig::read(&path));
            Look { thread: spawn_blocking(look), overdue: Some(Instant::now() + READING_LIMIT) }
        });
        let overdue = async {
            match look.overdue {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            read = &mut look.thread => read,
            () = overdue => {
                look.overdue = None;
                bail!("the files of the web config {} cannot be read since {} s: what they said last stays in force",
                    path.display(), READING_LIMIT.as_secs());
            }
        };
        self.reading = None;
        match read.context("failed to look at the files of the web config")? {
            Some(reading) => self.use_instead(reading),
            None => Ok(()),
        }
    }

    fn use_instead(&mut self, reading: Reading) -> Result<()> {
        // What is wrong is said once, and looked at again after the next change.
        self.files = reading.files;
        let config = reading.config?;
        let lost = self.protection.lost_in(&config.protection);
        if !lost.is_empty() {
            let path = self.path.as_deref().unwrap_or(Path::new("")).display();
            bail!(
                "the web config {path} lacks {} now and is not used: a restart would, if it is meant so",
                lost.join(", ")
            );
        }
        if self.digest.as_ref().map(Digest::as_ref) != Some(reading.digest.as_ref()) {
            self.protection = config.protection.clone();
            self.digest = Some(reading.digest);
            self.access.send_replace(Access::new(config, &self.logins));
            log::info!("read the web config again");
        }
        Ok(())
    }
}
