//! The part of a web config that is about TLS.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
        crypto::{
            CryptoProvider, SupportedKxGroup,
            ring::{
                self,
                cipher_suite::{
                    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                },
                kx_group::{SECP256R1, SECP384R1, X25519},
            },
        },
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject as _},
        },
        version::{TLS12, TLS13},
    },
};

use super::{
    clients::{self, ClientAuth},
    files::Files,
    protection::TlsProtection,
};

/// Cipher suites of TLS 1.2, under the names of Go.
static CIPHER_SUITES: [(&str, &SupportedCipherSuite); 6] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", &TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", &TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", &TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", &TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", &TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", &TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<Version>,
    max_version: Option<Version>,
    #[serde(default)]
    cipher_suites: Vec<String>,
    prefer_server_cipher_suites: Option<bool>,
    #[serde(default)]
    curve_preferences: Vec<Curve>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Clone, Copy, Deserialize)]
enum Curve {
    CurveP256,
    CurveP384,
    X25519,
}

impl Curve {
    fn group(self) -> &'static dyn SupportedKxGroup {
        match self {
            Self::CurveP256 => SECP256R1,
            Self::CurveP384 => SECP384R1,
            Self::X25519 => X25519,
        }
    }
}

/// Something in PEM, and where it comes from. Of that only the setting is said: somebody may have put a key there instead of a path.
struct Pem {
    content: Vec<u8>,
    setting: String,
}

impl Tls {
    /// What takes connections, and what that protects from; files are relative to `folder`.
    ///
    /// # Errors
    /// If something cannot be read, or settings do not go together.
    pub fn acceptor(self, folder: &Path, files: &mut Files) -> Result<(TlsAcceptor, TlsProtection)> {
        let mut pem = |text: &Option<String>, file: &Option<PathBuf>, name| pem_of(text, file, folder, name, files);
        let certificate = pem(&self.cert, &self.cert_file, "cert")?;
        let certificate = certificate.context("one of cert_file and cert is missing")?;
        let key = pem(&self.key, &self.key_file, "key")?;
        let key = key.context("one of key_file and key is missing")?;
        let roots = pem(&self.client_ca, &self.client_ca_file, "client_ca")?;
        let (certificates, private_key) = (certificate.certificates()?, key.private_key()?);
        let provider = Arc::new(self.provider()?);
        let protection = self.protection(&provider);
        let roots = roots.map(|pem| pem.roots()).transpose()?;
        let verifier = clients::verifier(self.client_auth_type, roots, self.client_allowed_sans, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(self.min_version, self.max_version)?)
            .context("failed to use these versions with these cipher_suites")?;
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder
            .with_single_cert(certificates, private_key)
            .with_context(|| format!("failed to use {} with {}", certificate.setting, key.setting))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = self.prefer_server_cipher_suites.unwrap_or(true);
        Ok((TlsAcceptor::from(Arc::new(config)), protection))
    }

    fn protection(&self, provider: &CryptoProvider) -> TlsProtection {
        TlsProtection {
            asks_clients: self.client_auth_type != ClientAuth::NoClientCert,
            demands_clients: self.client_auth_type.is_mandatory(),
            verifies_clients: self.client_auth_type.is_verified(),
            has_sans: self.client_allowed_sans.is_some(),
            is_13_only: self.min_version == Some(Version::Tls13),
            cipher_suites: provider.cipher_suites.iter().map(|suite| suite.suite().into()).collect(),
            curves: provider.kx_groups.iter().map(|group| group.name().into()).collect(),
        }
    }

    /// What encrypts; everything there is, unless there are preferences.
    fn provider(&self) -> Result<CryptoProvider> {
        let mut provider = ring::default_provider();
        if !self.cipher_suites.is_empty() {
            // As in Go, those of TLS 1.3 cannot be chosen.
            provider.cipher_suites.retain(|suite| suite.tls13().is_some());
            for (number, name) in self.cipher_suites.iter().enumerate() {
                provider.cipher_suites.push(cipher_suite(number + 1, name)?);
            }
        }
        if !self.curve_preferences.is_empty() {
            provider.kx_groups = self.curve_preferences.iter().map(|curve| curve.group()).collect();
        }
        Ok(provider)
    }
}

fn cipher_suite(number: usize, name: &str) -> Result<SupportedCipherSuite> {
    let found = CIPHER_SUITES.iter().find(|(known, _)| *known == name);
    let names = || CIPHER_SUITES.map(|(name, _)| name).join(", ");
    found.map(|(_, suite)| **suite).with_context(|| {
        format!(
            "cipher_suites: number {number} is not supported; of TLS 1.2 there are {}, those of TLS 1.3 are always there",
            names()
        )
    })
}

fn versions(min: Option<Version>, max: Option<Version>) -> Result<&'static [&'static SupportedProtocolVersion]> {
    const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
    const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    match (min.unwrap_or(Version::Tls12), max.unwrap_or(Version::Tls13)) {
        (Version::Tls12, Version::Tls13) => Ok(BOTH),
        (Version::Tls12, Version::Tls12) => Ok(ONLY_12),
        (Version::Tls13, Version::Tls13) => Ok(ONLY_13),
        (Version::Tls13, Version::Tls12) => bail!("min_version is above max_version"),
    }
}

/// What a setting says, of which there may be text or a file.
fn pem_of(
    text: &Option<String>,
    file: &Option<PathBuf>,
    folder: &Path,
    name: &str,
    files: &mut Files,
) -> Result<Option<Pem>> {
    match (text, file) {
        (Some(_), Some(_)) => bail!("there are both {name} and {name}_file"),
        (Some(text), None) => Ok(Some(Pem { content: text.clone().into_bytes(), setting: name.to_owned() })),
        (None, Some(file)) => {
            let content = files.read(&folder.join(file)).with_context(|| format!("failed to read {name}_file"))?;
            Ok(Some(Pem { content, setting: format!("{name}_file") }))
        }
        (None, None) => Ok(None),
    }
}

impl Pem {
    /// Some of these errors would show what they are about.
    fn error(&self, what: &str, error: &pem::Error) -> anyhow::Error {
        let why = match error {
            pem::Error::NoItemsFound => "there is none in it",
            pem::Error::MissingSectionEnd { .. } => "its end is missing",
            pem::Error::IllegalSectionStart { .. } => "a line of it begins a section and does not end right",
            pem::Error::Base64Decode(_) => "it is not base64",
            _ => "it is not PEM",
        };
        anyhow!("failed to read {what} from {}: {why}", self.setting)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.content).collect();
        let certificates = certificates.map_err(|error| self.error("certificates", &error))?;
        ensure!(!certificates.is_empty(), "failed to read {}: there is no certificate in it", self.setting);
        Ok(certificates)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.content).map_err(|error| self.error("a private key", &error))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).with_context(|| format!("failed to use an authority of {}", self.setting))?;
        }
        Ok(roots)
    }
}
