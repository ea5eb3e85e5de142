//! What a web config can say about TLS and headers, each with clients that it is for and clients that it is not for.

use std::{fs, io::Write as _, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    CipherSuite, ClientConfig, SupportedCipherSuite,
    crypto::{
        CryptoProvider,
        ring::{
            cipher_suite::{TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
            default_provider,
        },
    },
    version::{TLS12, TLS13},
};

use super::{
    harness::{Server, get},
    web_config::{Folder, scrapes, tls},
};

const AES: SupportedCipherSuite = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
const CHACHA: SupportedCipherSuite = TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;

/// A client of TLS 1.2 that can do and prefers these.
fn client_of(folder: &Folder, cipher_suites: &[SupportedCipherSuite]) -> Arc<ClientConfig> {
    let provider = CryptoProvider { cipher_suites: cipher_suites.to_vec(), ..default_provider() };
    folder.client_with(false, &[&TLS12], provider)
}

/// What a connection agrees on, if it comes about.
fn agreed(server: &Server, client: &Arc<ClientConfig>) -> (Option<CipherSuite>, Option<String>) {
    let mut stream = tls(server, client);
    let _unused = stream.write_all(b"GET /-/healthy HTTP/1.1\r\n").and_then(|()| stream.flush());
    let group = stream.conn.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    (stream.conn.negotiated_cipher_suite().map(|suite| suite.suite()), group)
}

#[test]
fn cipher_suites_are_those_that_are_listed() {
    let folder = Folder::new("suites");
    let listed = "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n";
    let server = Server::start(Some(folder.tls(listed)), None);
    assert_eq!(agreed(&server, &client_of(&folder, &[AES, CHACHA])).0, Some(CHACHA.suite()));
    assert!(!scrapes(&server, &client_of(&folder, &[AES])));
    assert!(scrapes(&server, &folder.client(false, &[&TLS13])), "those of TLS 1.3 are always there");
}

#[test]
fn the_server_prefers_unless_the_client_may() {
    let folder = Folder::new("preferred");
    let listed = "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n";
    for (more, expected) in [("", CHACHA), ("  prefer_server_cipher_suites: false\n", AES)] {
        let server = Server::start(Some(folder.tls(&format!("{listed}{more}"))), None);
        assert_eq!(agreed(&server, &client_of(&folder, &[AES, CHACHA])).0, Some(expected.suite()), "{more}");
    }
}

#[test]
fn curves_are_those_that_are_listed() {
    let folder = Folder::new("curves");
    for (listed, expected) in [("CurveP384", "secp384r1"), ("CurveP256, X25519", "secp256r1"), ("X25519", "X25519")] {
        let server = Server::start(Some(folder.tls(&format!("  curve_preferences: [{listed}]\n"))), None);
        for version in [&TLS12, &TLS13] {
            let mut provider = default_provider();
            // What the client can do at all, the server's choice as the last.
            provider.kx_groups.sort_by_key(|group| format!("{:?}", group.name()) == expected);
            if !listed.contains(',') {
                assert_eq!(
                    agreed(&server, &folder.client_with(false, &[version], provider)).1.as_deref(),
                    Some(expected)
                );
            } else {
                provider.kx_groups.retain(|group| format!("{:?}", group.name()) == "secp384r1");
                assert!(!scrapes(&server, &folder.client_with(false, &[version], provider)));
            }
        }
    }
}

#[test]
fn the_highest_version_is_chosen() {
    let folder = Folder::new("highest");
    let server = Server::start(Some(folder.tls("  max_version: TLS12\n")), None);
    assert!(scrapes(&server, &folder.client(false, &[&TLS12])));
    assert!(!scrapes(&server, &folder.client(false, &[&TLS13])));
}

#[test]
fn certificates_of_whomever_are_taken_if_told_so() {
    let (folder, others) = (Folder::new("any"), Folder::new("whoever"));
    // It trusts the server, and has a certificate of an authority that the server does not know.
    fs::copy(folder.0.join("ca.pem"), others.0.join("ca.pem")).expect("copied");
    for (kind, without) in [("RequestClientCert", true), ("RequireAnyClientCert", false), ("RequireClientCert", false)]
    {
        let server = Server::start(Some(folder.tls(&format!("  client_auth_type: {kind}\n"))), None);
        for version in [&TLS12, &TLS13] {
            assert!(scrapes(&server, &others.client(true, &[version])), "{kind}");
            assert_eq!(scrapes(&server, &folder.client(false, &[version])), without, "{kind}");
        }
    }
}

#[test]
fn certificates_have_to_be_for_one_of_the_names() {
    let folder = Folder::new("names");
    let verified = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    for (kind, names, expected) in [
        (verified, "[client]", true),
        (verified, "[another, 127.0.0.9]", true),
        (verified, "[\"spiffe://example.org/scraper\"]", true),
        ("  client_auth_type: RequireAnyClientCert\n", "[client]", true),
        ("  client_auth_type: RequireAnyClientCert\n", "[clien, client.example.org, 127.0.0.8]", false),
        (verified, "[another]", false),
        (verified, "[]", false),
    ] {
        let server = Server::start(Some(folder.tls(&format!("{kind}  client_allowed_sans: {names}\n"))), None);
        for version in [&TLS12, &TLS13] {
            assert_eq!(scrapes(&server, &folder.client(true, &[version])), expected, "{kind}{names}");
            assert!(!scrapes(&server, &folder.client(false, &[version])), "{kind}{names}");
        }
    }
    // The right name does not help who has it from somebody else.
    let others = Folder::new("false-names");
    fs::copy(folder.0.join("ca.pem"), others.0.join("ca.pem")).expect("copied");
    let server = Server::start(Some(folder.tls(&format!("{verified}  client_allowed_sans: [client]\n"))), None);
    assert!(!scrapes(&server, &others.client(true, &[&TLS13])));
}

#[test]
fn certificates_may_stand_in_the_web_config_itself() {
    let folder = Folder::new("inline");
    let text = |name: &str| {
        let text = fs::read_to_string(folder.0.join(name)).expect("readable");
        text.lines().map(|line| format!("    {line}\n")).collect::<String>()
    };
    let config = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}  client_ca: |\n{}  client_auth_type: RequireAndVerifyClientCert\n",
        text("localhost.pem"),
        text("localhost.key"),
        text("ca.pem"),
    );
    let path: PathBuf = folder.write("web-config.yml", &config);
    let server = Server::start(Some(path), None);
    assert!(scrapes(&server, &folder.client(true, &[&TLS13])));
    assert!(!scrapes(&server, &folder.client(false, &[&TLS13])));
}

#[test]
fn headers_are_those_that_are_set() {
    let folder = Folder::new("headers");
    let path = folder.write(
        "web-config.yml",
        "http_server_config:\n  http2: false\n  headers:\n    Strict-Transport-Security: max-age=60\n    \
         X-Frame-Options: deny\n    X-XSS-Protection: \"\"\n    Content-Security-Policy: default-src 'self'\n",
    );
    let server = Server::start(Some(path), None);
    for path in ["/", "/metrics", "/nowhere"] {
        let answer = get(&mut server.connect(), path, "");
        assert_eq!(answer.header("strict-transport-security"), Some("max-age=60"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("deny"), "{path}");
        assert_eq!(answer.header("x-xss-protection"), None, "{path}");
        let policies = answer.head.lines().filter(|line| line.to_lowercase().starts_with("content-security-policy"));
        assert_eq!(policies.collect::<Vec<_>>(), ["content-security-policy: default-src 'self'"], "{path}");
    }
}
