//! The web config: TLS, headers and basic authentication, as the Prometheus exporter toolkit reads them.
//!
//! https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What is not supported here is
//! refused, not ignored: a setting that seems to protect and does not would be worse than none.

mod clients;
mod files;
mod headers;
mod protection;
mod tls;
mod yaml;

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use hyper::header::{HeaderName, HeaderValue};
use ring::digest;
use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Spanned;
use tokio_rustls::TlsAcceptor;

use self::{files::Files, headers::Http, tls::Tls};
pub use self::{files::Stamps, protection::Protection};

/// bcrypt's costs: below there is none, above one attempt would take seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// What a web config says.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// TLS, if connections are to be encrypted.
    pub tls: Option<TlsAcceptor>,
    /// Headers of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// bcrypt hashes by user; everybody may ask if there are none.
    pub users: HashMap<String, String>,
    /// What all this protects from.
    pub protection: Protection,
}

/// What came of reading a web config.
pub struct Reading {
    /// The config.
    pub config: Result<WebConfig>,
    /// The files that were read for it, itself included, and those that could not be.
    pub files: Stamps,
    /// Of the contents of all of them.
    pub digest: digest::Digest,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    http_server_config: Option<Http>,
    basic_auth_users: Option<HashMap<String, Spanned<String>>>,
    rate_limit: Option<IgnoredAny>,
}

impl WebConfig {
    /// Reads a web config and every file that it names; their paths are relative to its folder. An error, which says what
    /// cannot be read or is wrong, shows nothing of their contents.
    #[must_use]
    pub fn read(path: &Path) -> Reading {
        let mut files = Files::default();
        let config = Self::read_with(path, &mut files);
        let config = config.with_context(|| format!("failed to read the web config {}", path.display()));
        let (files, digest) = files.finish();
        Reading { config, files, digest }
    }

    fn read_with(path: &Path, files: &mut Files) -> Result<Self> {
        let text = String::from_utf8(files.read(path)?).map_err(|_| anyhow!("it is not UTF-8"))?;
        let file = match text.trim().is_empty() {
            true => File::default(),
            false => yaml::parse(&text)?,
        };
        ensure!(file.rate_limit.is_none(), "rate_limit is not supported: connections are limited by themselves");
        let folder = path.parent().unwrap_or(Path::new("."));
        let tls = file.tls_server_config.map(|tls| tls.acceptor(folder, files)).transpose()?;
        let (tls, tls_protection) = tls.unzip();
        let headers = file.http_server_config.map(Http::headers).transpose()?.unwrap_or_default();
        let users = file.basic_auth_users.unwrap_or_default();
        users.iter().try_for_each(|(user, hash)| check_user(user, hash))?;
        let protection = Protection {
            tls: tls_protection,
            has_users: !users.is_empty(),
            headers: headers.iter().map(|(name, _)| name.to_string()).collect(),
        };
        let users = users.into_iter().map(|(user, hash)| (user, hash.value)).collect();
        Ok(Self { tls, headers, users, protection })
    }
}

/// A name may be a hash, if the two were exchanged: neither is shown.
fn check_user(user: &str, hash: &Spanned<String>) -> Result<()> {
    const REMEDY: &str = "make one with `htpasswd -nBC 10 USER`";
    let place = yaml::place(hash.referenced);
    ensure!(!user.contains(':'), "{place}: basic_auth_users: a name has a colon, which ends a name in HTTP");
    let Ok(parts) = hash.value.parse::<bcrypt::HashParts>() else {
        bail!("{place}: basic_auth_users: this is no bcrypt hash: {REMEDY}");
    };
    let cost = parts.get_cost();
    let (low, high) = (COSTS.start(), COSTS.end());
    ensure!(
        COSTS.contains(&cost),
        "{place}: basic_auth_users: this hash has cost {cost}, not {low} to {high}: {REMEDY}"
    );
    Ok(())
}
