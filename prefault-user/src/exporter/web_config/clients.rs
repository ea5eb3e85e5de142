//! Which certificates of clients are taken.

use std::{fmt, net::IpAddr, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use webpki::EndEntityCert;

/// What is wanted of clients, under the names of Go.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    NoClientCert,
    /// To have a certificate, or not, of whomever.
    RequestClientCert,
    /// To have a certificate of whomever.
    #[serde(alias = "RequireClientCert")]
    RequireAnyClientCert,
    /// To have none or one that an authority has signed.
    VerifyClientCertIfGiven,
    /// To have one that an authority has signed.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    /// Whether a client without a certificate is refused.
    pub fn is_mandatory(self) -> bool {
        matches!(self, Self::RequireAnyClientCert | Self::RequireAndVerifyClientCert)
    }

    /// Whether an authority has to have signed a certificate.
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert)
    }
}

/// What verifies clients, `None` if nothing is wanted of them. `roots` are the authorities that sign them; with `sans`
/// their certificates have to be for one of these names.
///
/// # Errors
/// If the settings do not go together.
pub fn verifier(
    kind: ClientAuth,
    roots: Option<RootCertStore>,
    sans: Option<Vec<String>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    ensure!(
        sans.is_none() || kind.is_mandatory(),
        "client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert or RequireAnyClientCert"
    );
    let verifier: Arc<dyn ClientCertVerifier> = match (kind, roots) {
        (ClientAuth::NoClientCert, None) => return Ok(None),
        (kind, None) if kind.is_verified() => {
            bail!("client_auth_type needs client_ca_file, the authorities that sign clients")
        }
        (kind, Some(_)) if !kind.is_verified() => {
            bail!("client_ca_file has no use without client_auth_type: RequireAndVerifyClientCert")
        }
        (kind, Some(roots)) => {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            let builder = if kind.is_mandatory() { builder } else { builder.allow_unauthenticated() };
            builder.build().context("failed to use client_ca_file")?
        }
        (kind, None) => Arc::new(AnyCertificate {
            is_mandatory: kind.is_mandatory(),
            algorithms: provider.signature_verification_algorithms,
        }),
    };
    Ok(Some(match sans {
        None => verifier,
        Some(sans) => {
            let sans = sans.iter().map(|name| San::new(name)).collect::<Result<_>>()?;
            Arc::new(OneOf { verifier, sans })
        }
    }))
}

/// Takes every certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    is_mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A name that a certificate may be for.
#[derive(Debug)]
enum San {
    Ip(IpAddr),
    /// Of a host, or a URI.
    Text(String),
}

impl San {
    fn new(name: &str) -> Result<Self> {
        // The library that reads certificates passes over these.
        ensure!(name.contains("://") || !name.contains('@'), "client_allowed_sans: mail addresses are not supported");
        Ok(name.parse().map_or_else(|_| Self::Text(name.to_owned()), Self::Ip))
    }

    fn is_of(&self, certificate: &EndEntityCert<'_>) -> bool {
        match self {
            Self::Ip(ip) => certificate.verify_is_valid_for_subject_name(&ServerName::IpAddress((*ip).into())).is_ok(),
            Self::Text(text) => {
                certificate.valid_dns_names().chain(certificate.valid_uri_names()).any(|name| name == text)
            }
        }
    }
}

/// Takes, of the certificates that another verifier takes, those for one of some names.
struct OneOf {
    verifier: Arc<dyn ClientCertVerifier>,
    sans: Vec<San>,
}

impl fmt::Debug for OneOf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OneOf").field("sans", &self.sans).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for OneOf {
    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(certificate, intermediates, now)?;
        let parsed = EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
        match self.sans.iter().any(|san| san.is_of(&parsed)) {
            true => Ok(verified),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
