//! Pushes the metrics to an OpenTelemetry collector, by HTTP without encryption: to one on this host, which knows the way on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::Full;
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

use super::{
    answer::{Ask, exported},
    log_once::LogOnce,
};
use crate::{cli::endpoint::Endpoint, monitor::live::ticker, output::otlp};

/// How long a push may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Pushes each `interval` until the future is dropped. What fails is said once.
pub async fn push(endpoint: Endpoint, interval: Duration, asks: mpsc::Sender<Ask>) {
    let mut ticker = ticker(interval);
    let mut complaints = LogOnce::default();
    loop {
        ticker.tick().await;
        let pushed = match exported(&asks).await {
            Ok(exported) => send(&endpoint, otlp::request(&exported)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = pushed {
            complaints.say_once(&error);
        }
    }
}

/// Sends one request.
///
/// # Errors
/// If it does not arrive, or is refused.
async fn send(endpoint: &Endpoint, body: Vec<u8>) -> Result<()> {
    let context = || format!("failed to push to http://{}{}", endpoint.address, endpoint.path);
    timeout(LIMIT, exchange(endpoint, body)).await.map_err(anyhow::Error::from).flatten().with_context(context)
}

async fn exchange(endpoint: &Endpoint, body: Vec<u8>) -> Result<()> {
    let stream = TcpStream::connect(endpoint.address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(&endpoint.path)
        .header(header::HOST, endpoint.address.to_string())
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await;
    connection.abort();
    let status = response?.status();
    ensure!(status.is_success(), "the collector answers {status}");
    Ok(())
}
