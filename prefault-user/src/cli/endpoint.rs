//! Where metrics are pushed, as typed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use http::Uri;

/// The port and path of OTLP over HTTP.
const DEFAULT_PORT: u16 = 4318;
const DEFAULT_PATH: &str = "/v1/metrics";

/// Where to push, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The collector's address.
    pub address: SocketAddr,
    /// The path to post to.
    pub path: String,
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
