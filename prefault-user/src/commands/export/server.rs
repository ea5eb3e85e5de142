//! The HTTP server: connections, their limits, and what each may wait for.
//!
//! A connection is a task. None can make another one wait: what they share is asked for by message, and a client that does
//! not read, or does not finish its request, only has its own time run out. When there are too many, and most never asked
//! anything, the oldest of these goes, or else the one that has not asked for the longest time, so that the others neither keep a
//! scraper out nor end it.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use super::{
    address::Listener,
    answer::{Shared, answer},
};

/// Connections at once; one is closed for one more.
const MOST_CONNECTIONS: usize = 64;
/// A request line and all headers, in bytes; longer ones are answered with 431.
const MOST_HEADER_BYTES: usize = 16 * 1024;
/// What is read ahead and held back to be written, in bytes; an answer itself is not copied.
const MOST_BUFFERED_BYTES: usize = 64 * 1024;
/// Headers of a request.
const MOST_HEADERS: usize = 64;
/// From the first byte of waiting to the last header of a request. A scraper that asks less often connects anew.
const HEADER_LIMIT: Duration = Duration::from_secs(20);
/// From the connection to the end of the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// A client that has not taken anything of its answer for so long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
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
                listener.accept().await.map(|(stream, _)| connections.spawn(stream, Arc::clone(&shared)))
            }
            Listener::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| connections.spawn(stream, Arc::clone(&shared)))
            }
        };
        if let Err(error) = accepted {
            log::info!("failed to accept a connection: {error}");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// The connections there are.
#[derive(Debug, Default)]
struct Connections {
    /// Oldest first.
    open: Mutex<Vec<Connection>>,
    /// Requests so far, of all connections.
    requests: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    /// Number of its last request, 0 if there was none.
    asked: Arc<AtomicU64>,
}

impl Connections {
    fn spawn<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, shared: Arc<Shared>) {
        let tls = shared.access.borrow().tls.clone();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| !connection.task.is_finished());
        if open.len() >= MOST_CONNECTIONS {
            let asked: Vec<u64> = open.iter().map(|connection| connection.asked.load(Ordering::Relaxed)).collect();
            open.remove(most_dispensable(&asked)).task.abort();
        }
        let asked = Arc::new(AtomicU64::new(0));
        let requests = Requests { all: Arc::clone(&self.requests), last: Arc::clone(&asked) };
        let task = tokio::spawn(connection(stream, tls, shared, requests)).abort_handle();
        open.push(Connection { task, asked });
    }
}

/// Which connection is to be closed, of which `asked` are the numbers of their last requests, 0 if there was none, oldest
/// connection first. Of a few that have not asked yet one may be a scraper that has only just come.
fn most_dispensable(asked: &[u64]) -> usize {
    let n_silent = asked.iter().filter(|&&request| request == 0).count();
    let is_considered = |number: &usize| asked[*number] > 0 || 2 * n_silent >= asked.len();
    (0..asked.len()).filter(is_considered).min_by_key(|&number| asked[number]).unwrap_or(0)
}

impl Drop for Connections {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        open.iter().for_each(|connection| connection.task.abort());
    }
}

/// Numbers the requests of one connection, among all.
#[derive(Debug)]
struct Requests {
    all: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

impl Requests {
    fn count(&self) {
        self.last.store(self.all.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// One connection from begin to end. How a client fails is its own matter, and only said when asked for.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    requests: Requests,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_LIMIT));
    let stream = Box::pin(stream);
    let result = match tls {
        None => talk(stream, shared, requests).await,
        Some(tls) => match timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, shared, requests).await,
            Ok(Err(error)) => Err(error.into()),
            Err(elapsed) => Err(io::Error::from(elapsed).into()),
        },
    };
    if let Err(error) = result {
        log::info!("a connection ended: {error}");
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    shared: Arc<Shared>,
    requests: Requests,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let service = service_fn(move |request| {
        requests.count();
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, &request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_header_size(MOST_HEADER_BYTES)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_BUFFERED_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::most_dispensable;

    #[test]
    fn the_oldest_of_many_that_never_asked_goes_or_who_asked_longest_ago() {
        assert_eq!(most_dispensable(&[7, 0, 0, 0]), 1);
        assert_eq!(most_dispensable(&[7, 3, 5, 0]), 1);
        assert_eq!(most_dispensable(&[0, 0]), 0);
    }
}
