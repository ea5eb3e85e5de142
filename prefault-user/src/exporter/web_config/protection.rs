//! What a web config protects from, so that reading it again never takes some of that away.
//!
//! A file that is being written is empty at first, and then ends somewhere: it may be right all the same, and protect less. That
//! cannot be told from a file that is meant so. Other users, certificates and authorities protect as much.

use std::collections::BTreeSet;

/// What a web config protects from.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    /// Encryption, if there is any.
    pub tls: Option<TlsProtection>,
    /// Whether a password is needed.
    pub has_users: bool,
    /// Headers that are set.
    pub headers: BTreeSet<String>,
}

/// What TLS protects from.
#[derive(Clone, Debug)]
pub struct TlsProtection {
    /// Whether clients are asked for a certificate, have to have one, and have it verified.
    pub asks_clients: bool,
    /// See above.
    pub demands_clients: bool,
    /// See above.
    pub verifies_clients: bool,
    /// Whether certificates have to be for certain names.
    pub has_sans: bool,
    /// Whether TLS 1.2 is refused.
    pub is_13_only: bool,
    /// Cipher suites, by number.
    pub cipher_suites: BTreeSet<u16>,
    /// Curves, by number.
    pub curves: BTreeSet<u16>,
}

impl Protection {
    /// What of this another one lacks.
    pub fn lost_in(&self, other: &Self) -> Vec<String> {
        let mut lost: Vec<&str> = Vec::new();
        match (&self.tls, &other.tls) {
            (Some(_), None) => lost.push("TLS"),
            (Some(one), Some(other)) => lost.extend(one.lost_in(other)),
            (None, _) => {}
        }
        if self.has_users && !other.has_users {
            lost.push("basic_auth_users");
        }
        let headers = self.headers.difference(&other.headers).map(|name| format!("the header {name}"));
        lost.into_iter().map(str::to_owned).chain(headers).collect()
    }
}

impl TlsProtection {
    fn lost_in(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let clients = (self.asks_clients && !other.asks_clients)
            || (self.demands_clients && !other.demands_clients)
            || (self.verifies_clients && !other.verifies_clients);
        // Those of TLS 1.2 protect nobody where there is none.
        let suites = !other.is_13_only && !self.is_13_only && !other.cipher_suites.is_subset(&self.cipher_suites);
        let lost = [
            (clients, "client_auth_type"),
            (self.has_sans && !other.has_sans, "client_allowed_sans"),
            (self.is_13_only && !other.is_13_only, "min_version"),
            (suites, "cipher_suites"),
            (!other.curves.is_subset(&self.curves), "curve_preferences"),
        ];
        lost.into_iter().filter(|(is_lost, _)| *is_lost).map(|(_, name)| name)
    }
}
