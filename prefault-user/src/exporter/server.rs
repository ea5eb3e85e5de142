//! The HTTP server: what each connection may wait for, and what it may send.
//!
//! A connection is a task. None can make another one wait: what they share is asked for by message, and a client that does
//! not read, or does not finish its request, only has its own time run out. Which one goes when there are too many is said in
//! `connections.rs`.

use std::{
    error::Error,
    future::Future,
    io,
    os::fd::AsRawFd,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_io_timeout::TimeoutStream;

use super::{
    access::Access,
    address::Listener,
    answer::{Shared, answer},
    client::{Client, Peer, Stage},
    connections::Connections,
    newcomer::Newcomer,
};

/// A request line and all headers, in bytes; longer ones are answered with 431.
const MOST_HEADER_BYTES: usize = 8 * 1024;
/// What is read ahead and held back to be written, in bytes; an answer itself is not copied.
const MOST_BUFFERED_BYTES: usize = 64 * 1024;
/// Headers of a request.
const MOST_HEADERS: usize = 64;
/// From the first byte of waiting to the last header of a request. A scraper that asks less often connects anew.
const HEADER_LIMIT: Duration = Duration::from_secs(20);
/// From the connection to its first byte, and with TLS to the end of the handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A client that has not taken anything of its answer for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// What is being answered when who may ask has changed is let go on for so long.
const LAST_ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// After a failure to accept a connection, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers at all `listeners` until the future is dropped, which closes every connection.
pub async fn serve(listeners: Vec<Listener>, shared: Arc<Shared>) {
    let connections = Arc::new(Connections::default());
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, Arc::clone(&shared), Arc::clone(&connections)));
    }
    // None of them ends by itself.
    while accepting.join_next().await.is_some() {}
    std::future::pending().await
}

async fn accept(listener: Listener, shared: Arc<Shared>, connections: Arc<Connections>) {
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => {
                listener.accept().await.map(|(stream, address)| begin(stream, address.into(), &shared, &connections))
            }
            Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                let user = stream.peer_cred().map_or(u32::MAX, |credentials| credentials.uid());
                begin(stream, Peer::User(user), &shared, &connections);
            }),
        };
        if let Err(error) = accepted {
            log::info!("failed to accept a connection: {error}");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// A socket that can be waited on without anything of memory for what comes.
trait Socket: AsyncRead + AsyncWrite + AsRawFd + Unpin + Send + 'static {
    fn first_byte(&self) -> impl Future<Output = io::Result<()>> + Send;
}

impl Socket for TcpStream {
    fn first_byte(&self) -> impl Future<Output = io::Result<()>> + Send {
        self.readable()
    }
}

impl Socket for UnixStream {
    fn first_byte(&self) -> impl Future<Output = io::Result<()>> + Send {
        self.readable()
    }
}

type Failure = Box<dyn Error + Send + Sync>;

fn begin<S: Socket>(stream: S, peer: Peer, shared: &Arc<Shared>, connections: &Arc<Connections>) {
    let client = Arc::new(Client::new(peer, stream.as_raw_fd()));
    let connection = Connection {
        client: Arc::clone(&client),
        shared: Arc::clone(shared),
        connections: Arc::downgrade(connections),
        access: shared.access.clone(),
    };
    connections.add(&client, || tokio::spawn(connection.run(stream)).abort_handle());
}

/// What a connection goes by.
struct Connection {
    client: Arc<Client>,
    shared: Arc<Shared>,
    connections: Weak<Connections>,
    /// Changes when who may ask has changed since the connection came.
    access: watch::Receiver<Access>,
}

impl Connection {
    /// One connection from begin to end. How a client fails is its own matter, and only said when asked for.
    async fn run<S: Socket>(self, stream: S) {
        if let Err(error) = self.talk(stream).await {
            log::info!("a connection ended: {error}");
        }
    }

    async fn talk<S: Socket>(mut self, stream: S) -> Result<(), Failure> {
        let tls = self.access.borrow_and_update().tls.clone();
        let begun = Instant::now();
        timeout(HANDSHAKE_LIMIT, stream.first_byte()).await??;
        self.client.reach(Stage::Begun);
        let mut stream = TimeoutStream::new(Newcomer::new(stream, &self.client));
        stream.set_write_timeout(Some(WRITE_LIMIT));
        let stream = Box::pin(stream);
        match tls {
            None => self.answer(stream).await,
            Some(tls) => {
                let stream = timeout_at(begun + HANDSHAKE_LIMIT, tls.accept(stream)).await??;
                self.answer(stream).await
            }
        }
    }

    /// Answers until the client has enough, or who may ask has changed: then what is being answered still is.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(self, stream: S) -> Result<(), Failure> {
        let Self { client, shared, connections, mut access } = self;
        let is_current = access.clone();
        let service = service_fn(move |request| {
            let (client, shared) = (Arc::clone(&client), Arc::clone(&shared));
            // What was let in by a certificate was let in by those who are trusted no more.
            let is_outdated = is_current.has_changed().unwrap_or(false);
            if let (false, Some(connections)) = (is_outdated, connections.upgrade()) {
                connections.count_request(&client);
            }
            async move {
                if is_outdated {
                    return Err("who may ask has changed");
                }
                let response = answer(&shared, &client, &request).await;
                client.reach(Stage::Answered);
                Ok(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_LIMIT)
            .half_close(true)
            .max_header_size(MOST_HEADER_BYTES)
            .max_headers(MOST_HEADERS)
            .max_buf_size(MOST_BUFFERED_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            // Nobody changes it any more when all ends.
            changed = access.changed() => if changed.is_err() { return Ok(connection.await?) },
        }
        connection.as_mut().graceful_shutdown();
        Ok(timeout(LAST_ANSWER_LIMIT, connection).await??)
    }
}
