//! What a client may send before its first request is whole: otherwise each of many connections could have the server keep 64 KiB
//! of a handshake that never ends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::Client;

/// Bytes of a handshake, with the certificates of a client, and of the headers.
const MOST_BYTES: usize = 24 * 1024;

/// A connection of which no more than so much is read until it has asked something.
pub struct Newcomer<S> {
    stream: S,
    client: Arc<Client>,
    n_bytes: usize,
}

impl<S> Newcomer<S> {
    /// One of which nothing was read yet.
    pub fn new(stream: S, client: &Arc<Client>) -> Self {
        Self { stream, client: Arc::clone(client), n_bytes: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Newcomer<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.n_bytes > MOST_BYTES && self.client.asked() == 0 {
            return Poll::Ready(Err(io::Error::other("too much came before the first request")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.n_bytes = self.n_bytes.saturating_add(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Newcomer<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use crate::exporter::{client::Peer, newcomer::*};

    #[tokio::test]
    async fn what_comes_before_the_first_request_is_bounded() {
        for (asks, expected) in [(false, MOST_BYTES + 1024), (true, 4 * MOST_BYTES)] {
            let client = Arc::new(Client::new(Peer::V4(Ipv4Addr::LOCALHOST), -1));
            if asks {
                client.ask(1);
            }
            let (mut sends, receives) = duplex(1024);
            let mut newcomer = Newcomer::new(receives, &client);
            tokio::spawn(async move { sends.write_all(&vec![0; 4 * MOST_BYTES]).await });
            let (mut n_bytes, mut bytes) = (0, [0; 1024]);
            while let Ok(n) = newcomer.read(&mut bytes).await
                && n > 0
            {
                n_bytes += n;
            }
            assert_eq!(n_bytes, expected);
        }
    }
}
