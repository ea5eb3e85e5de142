//! Addresses to answer at, as typed.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

/// The port if none is given. The exporters' port list is fully allocated from 9100 to 9999, its own range; this one is
/// outside of it and below the ports that Linux gives to outgoing connections.
pub const DEFAULT_PORT: u16 = 29186;

/// An address as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of this host and a port.
    Ip(SocketAddr),
    /// Both loopback addresses.
    Localhost(u16),
    /// Every address of this host.
    Every(u16),
    /// A socket in the filesystem.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Self::Unix(path)),
                false => {
                    Err("a unix socket needs an absolute path, such as unix:/run/prefault/prefault.sock".to_owned())
                }
            };
        }
        if let Some((host @ ("" | "localhost"), port)) = text.rsplit_once(':') {
            let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
            return Ok(if host.is_empty() { Self::Every(port) } else { Self::Localhost(port) });
        }
        text.parse().map(Self::Ip).map_err(|_| {
            "it has to be an IP address or localhost, and a port, such as 127.0.0.1:29186 or [::1]:29186; or unix:/PATH"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let ip = |text: &str| Address::Ip(text.parse().expect("an address"));
        for (text, expected) in [
            ("127.0.0.1:1", ip("127.0.0.1:1")),
            ("[::1]:65535", ip("[::1]:65535")),
            (":80", Address::Every(80)),
            ("localhost:0", Address::Localhost(0)),
            ("unix:/run/a:b", Address::Unix("/run/a:b".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["", "80", "127.0.0.1", "::1:80", "example.org:80", ":65536", "localhost:", "unix:run", "unix:"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
