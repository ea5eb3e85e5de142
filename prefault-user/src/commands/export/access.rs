//! Who may ask and how, by the web config, which is read again when one of its files has changed: certificates are renewed
//! while the exporter runs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use hyper::header::{HeaderName, HeaderValue};
use tokio::{sync::watch, time::Interval as Ticker};
use tokio_rustls::TlsAcceptor;

use super::{auth::Auth, web_config::WebConfig};
use crate::commands::live::{tick, ticker};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

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

impl From<WebConfig> for Access {
    fn from(config: WebConfig) -> Self {
        Self { tls: config.tls, auth: Auth::new(config.users), headers: config.headers.into() }
    }
}

/// Keeps the access up to date with its files.
pub struct AccessWatch {
    path: Option<PathBuf>,
    /// When each file was changed last, `None` if it is not there.
    times: BTreeMap<PathBuf, Option<SystemTime>>,
    ticker: Option<Ticker>,
    access: watch::Sender<Access>,
}

impl AccessWatch {
    /// Reads the web config at `path`; everybody may ask if there is none. It has to be called within a tokio runtime.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn begin(path: Option<&Path>) -> Result<Self> {
        let config = path.map(WebConfig::read).transpose()?.unwrap_or_default();
        Ok(Self {
            path: path.map(Path::to_owned),
            times: times(&config.files),
            ticker: path.map(|_| ticker(INTERVAL)),
            access: watch::Sender::new(config.into()),
        })
    }

    /// The access as it is at any time.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Access> {
        self.access.subscribe()
    }

    /// The files that it is made of, which are read again.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.times.keys().map(PathBuf::as_path)
    }

    /// Waits until it is time to look at the files; for ever if there are none.
    pub async fn due(&mut self) {
        tick(&mut self.ticker).await;
    }

    /// Looks at the files, and reads them again if one has changed. Connections that are open stay as they are.
    ///
    /// # Errors
    /// If they are wrong now; the access then stays as it was.
    pub fn look(&mut self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let files: Vec<PathBuf> = self.times.keys().cloned().collect();
        let now = times(&files);
        if now == self.times {
            return Ok(());
        }
        // What is wrong is said once, and looked at again after the next change.
        self.times = now;
        let config = WebConfig::read(path)?;
        self.times = times(&config.files);
        self.access.send_replace(config.into());
        log::info!("read the web config again");
        Ok(())
    }
}

fn times(files: &[PathBuf]) -> BTreeMap<PathBuf, Option<SystemTime>> {
    let changed = |file: &PathBuf| fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    files.iter().map(|file| (file.clone(), changed(file))).collect()
}
