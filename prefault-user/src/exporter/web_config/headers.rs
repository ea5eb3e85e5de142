//! Headers that a web config adds to every answer.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;

/// Those that can be set, and to what, if not to anything.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// The part of a web config that is about HTTP.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    #[serde(default)]
    http2: bool,
    headers: Option<BTreeMap<String, String>>,
}

impl Http {
    /// The headers; those that are blank are not set.
    ///
    /// # Errors
    /// If one cannot be set so, or HTTP/2 is wanted.
    pub fn headers(self) -> Result<Vec<(HeaderName, HeaderValue)>> {
        ensure!(!self.http2, "http2: HTTP/2 is not supported: leave it out");
        let headers = self.headers.unwrap_or_default();
        headers.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| header(&name, &value)).collect()
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    let names = HEADERS.map(|(name, _)| name).join(", ");
    let known = HEADERS.iter().find(|(known, _)| *known == name);
    let (name, values) = known.with_context(|| format!("headers: one cannot be set, only {names}"))?;
    ensure!(
        values.is_empty() || values.contains(&value),
        "headers: {name} cannot be set to that, only to {}",
        values.join(" or ")
    );
    let value = value.parse().with_context(|| format!("headers: {name} cannot be set to that"))?;
    Ok((HeaderName::from_bytes(name.as_bytes())?, value))
}
