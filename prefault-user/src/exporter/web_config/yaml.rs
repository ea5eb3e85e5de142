//! What is wrong with a YAML document, without a word of it.
//!
//! A web config may hold keys and hashes, wherever its author has put them by mistake: as a value, as a name, in the line before.
//! So an error says where it is, names a setting only if that is one of those there are, and shows nothing else of the document.

use anyhow::{Error, Result, anyhow};
use serde::de::DeserializeOwned;
use serde_saphyr::{Error as YamlError, Location};

/// Names that may be shown.
const SETTINGS: [&str; 24] = [
    "tls_server_config",
    "http_server_config",
    "basic_auth_users",
    "rate_limit",
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_ca_file",
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
    "http2",
    "headers",
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

/// Reads a document.
///
/// # Errors
/// If it is no such document, saying where.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|error| described(&error, text))
}

/// A place in the document.
pub fn place(location: Location) -> String {
    format!("line {}", location.line())
}

fn described(error: &YamlError, text: &str) -> Error {
    let what = what(error.without_snippet());
    let Some(location) = error.location().filter(|location| location.line() > 0) else { return anyhow!(what) };
    let line = usize::try_from(location.line()).unwrap_or_default();
    let name = text.lines().nth(line.saturating_sub(1)).and_then(|line| line.split_once(':')).map(|(name, _)| name);
    let setting = name.and_then(|name| SETTINGS.into_iter().find(|setting| *setting == name.trim()));
    let setting = setting.map(|setting| format!("{setting}: ")).unwrap_or_default();
    anyhow!("line {line}, column {}: {setting}{what}", location.column())
}

fn what(error: &YamlError) -> String {
    match error {
        YamlError::SerdeUnknownField { expected, .. } => {
            format!("there is no such setting here, only {}", expected.join(", "))
        }
        YamlError::SerdeUnknownVariant { expected, .. } => format!("this is none of {}", expected.join(", ")),
        YamlError::SerdeInvalidType { expected, .. } | YamlError::SerdeInvalidValue { expected, .. } => {
            format!("this is not {expected}")
        }
        YamlError::Unexpected { expected, .. } => format!("{expected} is expected"),
        YamlError::InvalidScalar { ty, .. } => format!("this is not of type {ty}"),
        YamlError::InvalidBooleanStrict { .. } => "this is not a boolean: true or false".to_owned(),
        YamlError::DuplicateMappingKey { .. } => "this name is there twice".to_owned(),
        YamlError::SerdeMissingField { field, .. } => format!("{field} is missing"),
        YamlError::MultipleDocuments { .. } => "there is a second document".to_owned(),
        YamlError::Eof { .. } => "it ends too early".to_owned(),
        YamlError::Budget { .. } => "it is too large or too deep".to_owned(),
        YamlError::UnknownAnchor { .. } => "there is no such anchor".to_owned(),
        YamlError::AliasError { error, .. } => what(error.without_snippet()),
        _ => "this is not understood as YAML".to_owned(),
    }
}
