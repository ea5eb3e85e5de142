//! What systemd is told: ready, alive, stopping. Nothing happens where there is no systemd.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::Interval as Ticker;

use crate::monitor::live::{tick, ticker};

/// The variable in which a service manager says where it listens.
const ADDRESS: &str = "NOTIFY_SOCKET";

/// The service manager, if there is one.
#[derive(Debug)]
pub struct ServiceManager {
    /// Connected before privileges are given up, and none is made later: a process that can make one can ask every other
    /// process that listens at such a socket.
    socket: Option<UnixDatagram>,
    /// Within what time it wants to hear that this process is alive.
    limit: Duration,
    ticker: Option<Ticker>,
}

impl ServiceManager {
    /// Finds it. It has to be called within a tokio runtime.
    pub fn find() -> Self {
        let socket = connect().unwrap_or_else(|error| {
            log::info!("failed to reach systemd: {error}");
            None
        });
        let limit = sd_notify::watchdog_enabled();
        // It is told twice as often as it wants to hear.
        let ticker = limit.map(|limit| ticker((limit / 2).max(Duration::from_millis(1))));
        Self { socket, limit: limit.unwrap_or_default(), ticker }
    }

    /// Tells that measuring is on and how.
    pub fn tell_ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Tells that the end has begun.
    pub fn tell_stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Waits until it is to be told that this process is alive; for ever if it does not want to hear.
    pub async fn due(&mut self) {
        tick(&mut self.ticker).await;
    }

    /// Tells that this process is alive, unless a part of it has done nothing for so long that it is not.
    pub fn tell_alive(&self, idle: Duration) {
        if idle < self.limit {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(message.as_bytes()) {
            log::info!("failed to tell systemd: {error}");
        }
    }
}

/// A socket that leads to the service manager; `None` if there is none, or it is no manager of this host (vsock).
fn connect() -> io::Result<Option<UnixDatagram>> {
    let Some(address) = env::var_os(ADDRESS) else { return Ok(None) };
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(&address)?,
        _ => return Ok(None),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(Some(socket))
}
