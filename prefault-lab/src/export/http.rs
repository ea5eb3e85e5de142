//! Just enough of HTTP to ask a server on this machine.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

const LIMIT: Duration = Duration::from_secs(30);

/// A port of the loopback address that nobody listens at.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a free port")?;
    Ok(listener.local_addr().context("failed to find a free port")?.port())
}

/// The body of an answer with status 200.
///
/// # Errors
/// When there is no such answer.
pub fn get(port: u16, path: &str) -> Result<String> {
    let context = || format!("failed to get {path} from port {port}");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(context)?;
    stream.set_read_timeout(Some(LIMIT)).with_context(context)?;
    // HTTP 1.0 ends the body with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").with_context(context)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(context)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(context)?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "failed to get {path} from port {port}: {status}: {body}");
    Ok(body.to_owned())
}

/// A text as part of a query.
#[must_use]
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_query_is_encoded() {
        assert_eq!(encoded("sum(a{b=\"c d\"})"), "sum%28a%7Bb%3D%22c%20d%22%7D%29");
    }
}
