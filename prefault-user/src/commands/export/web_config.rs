//! The web config: TLS and basic authentication, as the Prometheus exporter toolkit reads them.
//!
//! https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What is not supported here is
//! refused, not ignored: a setting that seems to protect and does not would be worse than none.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};

/// bcrypt's cost above which one attempt would take seconds.
const HIGHEST_COST: u32 = 16;

/// What a web config says.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// TLS, if connections are to be encrypted.
    pub tls: Option<TlsAcceptor>,
    /// bcrypt hashes by user; everybody may ask if there are none.
    pub users: HashMap<String, String>,
    /// The files that it was read from: itself, certificates, keys.
    pub files: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    #[serde(default)]
    basic_auth_users: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_auth_type: ClientAuth,
    client_ca_file: Option<PathBuf>,
    min_version: Option<Version>,
    max_version: Option<Version>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
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
            true => File { tls_server_config: None, basic_auth_users: None },
            false => serde_saphyr::from_str(&text).with_context(context)?,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut files = vec![path.to_owned()];
        if let Some(tls) = &file.tls_server_config {
            files.extend([&tls.cert_file, &tls.key_file].map(|file| folder.join(file)));
            files.extend(tls.client_ca_file.iter().map(|file| folder.join(file)));
        }
        let tls = file.tls_server_config.map(|tls| tls.acceptor(folder)).transpose().with_context(context)?;
        let users = file.basic_auth_users.unwrap_or_default();
        for (user, hash) in &users {
            check_user(user, hash).with_context(context)?;
        }
        Ok(Self { tls, users, files })
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

impl Tls {
    fn acceptor(&self, folder: &Path) -> Result<TlsAcceptor> {
        let certificates = certificates(&folder.join(&self.cert_file))?;
        let key_file = folder.join(&self.key_file);
        let key =
            PrivateKeyDer::from_pem_file(&key_file).map_err(|error| error_of(&key_file, "a private key", error))?;
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(self.versions()?)?;
        let roots = self.client_ca_file.as_ref().map(|file| roots(&folder.join(file))).transpose()?;
        let builder = match (self.client_auth_type, roots) {
            (ClientAuth::NoClientCert, None) => builder.with_no_client_auth(),
            (ClientAuth::NoClientCert, Some(_)) => {
                bail!("client_ca_file has no use without client_auth_type: RequireAndVerifyClientCert")
            }
            (_, None) => bail!("client_auth_type needs client_ca_file, the authorities that sign clients"),
            (kind, Some(roots)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match kind {
                    ClientAuth::VerifyClientCertIfGiven => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().context("failed to use client_ca_file")?)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .with_context(|| format!("failed to use {} with {}", self.cert_file.display(), self.key_file.display()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn versions(&self) -> Result<&'static [&'static SupportedProtocolVersion]> {
        const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
        const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
        const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        match (self.min_version.unwrap_or(Version::Tls12), self.max_version.unwrap_or(Version::Tls13)) {
            (Version::Tls12, Version::Tls13) => Ok(BOTH),
            (Version::Tls12, Version::Tls12) => Ok(ONLY_12),
            (Version::Tls13, Version::Tls13) => Ok(ONLY_13),
            (Version::Tls13, Version::Tls12) => bail!("min_version is above max_version"),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| error_of(path, "certificates", error))?;
    ensure!(!certificates.is_empty(), "failed to read {}: there is no certificate in it", path.display());
    Ok(certificates)
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).with_context(|| format!("failed to use an authority of {}", path.display()))?;
    }
    Ok(roots)
}

fn error_of(path: &Path, what: &str, error: tokio_rustls::rustls::pki_types::pem::Error) -> anyhow::Error {
    anyhow::anyhow!("failed to read {what} from {}: {error}", path.display())
}
