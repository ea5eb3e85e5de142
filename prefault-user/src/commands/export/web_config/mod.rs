//! The web config: TLS, headers and basic authentication, as the Prometheus exporter toolkit reads them.
//!
//! https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What is not supported here is
//! refused, not ignored: a setting that seems to protect and does not would be worse than none.

mod clients;
mod headers;
mod tls;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

use self::{headers::Http, tls::Tls};

/// bcrypt's cost above which one attempt would take seconds.
const HIGHEST_COST: u32 = 16;

/// What a web config says.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// TLS, if connections are to be encrypted.
    pub tls: Option<TlsAcceptor>,
    /// Headers of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// bcrypt hashes by user; everybody may ask if there are none.
    pub users: HashMap<String, String>,
    /// The files that it was read from: itself, certificates, keys.
    pub files: Vec<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    http_server_config: Option<Http>,
    basic_auth_users: Option<HashMap<String, String>>,
}

impl WebConfig {
    /// Reads a web config and every file that it names; their paths are relative to its folder.
    ///
    /// # Errors
    /// If one of them cannot be read or is wrong, naming it.
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("failed to read the web config {}", path.display());
        let text = fs::read_to_string(path).with_context(context)?;
        let file = match text.trim().is_empty() {
            true => File::default(),
            false => serde_saphyr::from_str(&text).with_context(context)?,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files = vec![path.to_owned()];
        if let Some(tls) = &file.tls_server_config {
            files.extend(tls.files().map(|file| folder.join(file)));
        }
        let tls = file.tls_server_config.map(|tls| tls.acceptor(folder)).transpose().with_context(context)?;
        let headers = file.http_server_config.map(Http::headers).transpose().with_context(context)?;
        let users = file.basic_auth_users.unwrap_or_default();
        for (user, hash) in &users {
            check_user(user, hash).with_context(context)?;
        }
        Ok(Self { tls, headers: headers.unwrap_or_default(), users, files })
    }
}

fn check_user(user: &str, hash: &str) -> Result<()> {
    ensure!(!user.contains(':'), "the user {user:?} has a colon in its name, which ends a name in HTTP");
    let Ok(parts) = hash.parse::<bcrypt::HashParts>() else {
        bail!("the password of {user:?} is no bcrypt hash: make one with `htpasswd -nBC 10 USER`");
    };
    let cost = parts.get_cost();
    ensure!(cost <= HIGHEST_COST, "the hash of {user:?} has cost {cost}: make one with at most {HIGHEST_COST}");
    Ok(())
}
