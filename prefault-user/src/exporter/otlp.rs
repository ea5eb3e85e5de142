//! Pushes the metrics to an OpenTelemetry collector, by HTTP without encryption: to one on this host, which knows the way on.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use http_body_util::Full;
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

use super::{
    answer::{Ask, exported},
    complaints::Complaints,
};
use crate::{monitor::live::ticker, output::otlp};

/// The port and path of OTLP over HTTP.
const DEFAULT_PORT: u16 = 4318;
const DEFAULT_PATH: &str = "/v1/metrics";

/// How long a push may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Where to push, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address: SocketAddr,
    path: String,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "it has to be http:// and an IP address or localhost, such as http://localhost:4318; a collector there can \
             encrypt what it passes on"
                .to_owned()
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(wrong)?;
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.trim_matches(['[', ']']).parse().map_err(|_| wrong())?,
        };
        let path = if matches!(uri.path(), "" | "/") { DEFAULT_PATH } else { uri.path() };
        Ok(Self { address: SocketAddr::new(ip, uri.port_u16().unwrap_or(DEFAULT_PORT)), path: path.to_owned() })
    }
}

/// Pushes each `interval` until the future is dropped. What fails is said once.
pub async fn push(endpoint: Endpoint, interval: Duration, asks: mpsc::Sender<Ask>) {
    let mut ticker = ticker(interval);
    let mut complaints = Complaints::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        for (text, address, path) in [
            ("http://localhost", "127.0.0.1:4318", "/v1/metrics"),
            ("http://127.0.0.1:9090/api/v1/otlp/v1/metrics", "127.0.0.1:9090", "/api/v1/otlp/v1/metrics"),
            ("http://[::1]:1/", "[::1]:1", "/v1/metrics"),
        ] {
            let expected = Endpoint { address: address.parse().expect("an address"), path: path.to_owned() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["", "localhost:4318", "https://localhost", "http://example.org", "http://", "/v1/metrics"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
