//! Web configs: TLS and passwords at work, and everything that can be wrong with a file, each with its one line.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::harness::{Server, ask, get};

/// What certificates are for, besides their name.
const ADDRESS: &str = "127.0.0.9";
const URI: &str = "spiffe://example.org/scraper";

/// A folder of its own with certificates and keys in it, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An authority, a server's and a client's certificate of it.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("prefault-web-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("created");
        let folder = Self(path);
        let mut params = CertificateParams::new(Vec::new()).expect("well formed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
        folder.write("ca.pem", &authority.pem());
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(vec![name.to_owned(), ADDRESS.to_owned()]).expect("well formed");
            params.subject_alt_names.push(SanType::URI(URI.try_into().expect("ASCII")));
            let certificate = params.signed_by(&key, &authority).expect("signed");
            folder.write(&format!("{name}.pem"), &certificate.pem());
            folder.write(&format!("{name}.key"), &key.serialize_pem());
        }
        folder
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("written");
        path
    }

    /// A web config of TLS with further lines.
    pub fn tls(&self, more: &str) -> PathBuf {
        self.write(
            "web-config.yml",
            &format!("tls_server_config:\n  cert_file: localhost.pem\n  key_file: localhost.key\n{more}"),
        )
    }

    /// A client that trusts the authority, and has a certificate if `named`.
    pub fn client(&self, named: bool, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        self.client_with(named, versions, ring::default_provider())
    }

    /// One that encrypts as `provider` can.
    pub fn client_with(
        &self,
        named: bool,
        versions: &[&'static SupportedProtocolVersion],
        provider: CryptoProvider,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.0.join("ca.pem")).expect("a certificate")).expect("added");
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(versions).expect("known").with_root_certificates(roots);
        Arc::new(if named {
            let certificate = CertificateDer::from_pem_file(self.0.join("client.pem")).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(self.0.join("client.key")).expect("a key");
            builder.with_client_auth_cert(vec![certificate], key).expect("they belong together")
        } else {
            builder.with_no_client_auth()
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _unused = fs::remove_dir_all(&self.0);
    }
}

/// A connection that is encrypted once something was sent.
pub fn tls(server: &Server, client: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = "localhost".try_into().expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(client), name).expect("a client"), server.connect())
}

/// Whether a scrape over TLS works.
pub fn scrapes(server: &Server, client: &Arc<ClientConfig>) -> bool {
    let mut stream = tls(server, client);
    let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    asked.and_then(|()| stream.read_to_end(&mut answer)).is_ok() && answer.starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn connections_are_encrypted() {
    let folder = Folder::new("tls");
    let server = Server::start(Some(folder.tls("")), None);
    for (version, expected) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let mut stream = tls(&server, &folder.client(false, &[version]));
        assert_eq!(get(&mut stream, "/metrics", "").status(), "200");
        assert_eq!(stream.conn.protocol_version(), Some(expected));
    }
    // Whoever does not speak TLS gets nothing, and neither does who stops in the middle of the handshake.
    assert_eq!(ask(&mut server.connect(), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").status(), "");
    let _stuck: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(&[22, 3, 1, 2, 0, 1]).expect("sent");
            stream
        })
        .collect();
    assert!(scrapes(&server, &folder.client(false, &[&TLS13])));
}

#[test]
fn the_lowest_version_is_chosen() {
    let folder = Folder::new("versions");
    let server = Server::start(Some(folder.tls("  min_version: TLS13\n")), None);
    assert!(!scrapes(&server, &folder.client(false, &[&TLS12])));
    assert!(scrapes(&server, &folder.client(false, &[&TLS13])));
}

#[test]
fn renewed_certificates_are_used_and_wrong_ones_are_not() {
    let folder = Folder::new("renewed");
    let server = Server::start(Some(folder.tls("")), None);
    let (old, renewed) = (folder.client(false, &[&TLS13]), Folder::new("new"));
    assert!(scrapes(&server, &old));
    folder.write("localhost.pem", "nothing\n");
    std::thread::sleep(Duration::from_secs(5));
    assert!(scrapes(&server, &old));
    for name in ["localhost.key", "localhost.pem"] {
        fs::copy(renewed.0.join(name), folder.0.join(name)).expect("copied");
    }
    let begun = Instant::now();
    while !scrapes(&server, &renewed.client(false, &[&TLS13])) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the new certificate is not used");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(!scrapes(&server, &old));
}

#[test]
fn clients_have_to_have_a_certificate_if_asked_for() {
    let folder = Folder::new("clients");
    let authority = "  client_ca_file: ca.pem\n  client_auth_type: ";
    for (kind, without) in [("RequireAndVerifyClientCert", false), ("VerifyClientCertIfGiven", true)] {
        let path = folder.tls(&format!("{authority}{kind}\n"));
        let server = Server::start(Some(path.clone()), None);
        assert_eq!(scrapes(&server, &folder.client(false, &[&TLS13, &TLS12])), without, "{kind}");
        assert!(scrapes(&server, &folder.client(true, &[&TLS13, &TLS12])), "{kind}");
    }
    // One of another authority is as good as none.
    let other = Folder::new("others");
    let path = folder.tls(&format!("{authority}RequireAndVerifyClientCert\n"));
    fs::copy(folder.0.join("ca.pem"), other.0.join("ca.pem")).expect("copied");
    let server = Server::start(Some(path.clone()), None);
    assert!(!scrapes(&server, &other.client(true, &[&TLS13, &TLS12])));
}

#[test]
fn users_need_their_password_for_everything() {
    let folder = Folder::new("users");
    let hash = bcrypt::hash("secret", 4).expect("hashed");
    let path = folder.write("web-config.yml", &format!("basic_auth_users:\n  alice: {hash}\n"));
    let server = Server::start(Some(path.clone()), None);
    let header = |credentials: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(credentials));
    for path in ["/", "/metrics", "/-/healthy", "/-/ready", "/nowhere"] {
        for headers in [String::new(), header("alice:wrong"), header("bob:secret"), "Authorization: x\r\n".to_owned()] {
            let answer = get(&mut server.connect(), path, &headers);
            assert_eq!(answer.status(), "401", "{path} {headers}");
            assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
        }
    }
    assert_eq!(get(&mut server.connect(), "/metrics", &header("alice:secret")).status(), "200");
    // Guesses do not make those wait who are known.
    let guesses: Vec<TcpStream> = (0..30)
        .map(|number| {
            let mut stream = server.connect();
            let headers = header(&format!("nobody:{number}"));
            write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n").expect("sent");
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(get(&mut server.connect(), "/metrics", &header("alice:secret")).status(), "200");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop(guesses);
}

/// What the tool says of a web config.
pub fn check(path: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prefault"));
    let output = command.args(["export", "--check-web-config", "--web-config"]).arg(path).output().expect("started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_right_web_config_is_said_to_be_right() {
    let folder = Folder::new("right");
    let hash = bcrypt::hash("secret", 4).expect("hashed");
    let both = folder.tls(&format!("  client_auth_type: NoClientCert\nbasic_auth_users:\n  a: {hash}\n  b: {hash}\n"));
    assert_eq!(check(&both), (Some(0), "the web config is right: TLS, 2 users\n".to_owned(), String::new()));
    for empty in ["", "# nothing\n", "{}\n", "basic_auth_users:\n"] {
        let (code, said, _) = check(&folder.write("empty.yml", empty));
        assert_eq!((code, &*said), (Some(0), "the web config is right: no TLS, 0 users\n"), "{empty:?}");
    }
}

#[test]
fn what_is_wrong_with_a_web_config_is_one_line() {
    let folder = Folder::new("wrong");
    folder.write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    folder.write("empty.pem", "");
    let tls = |cert: &str, key: &str, more: &str| {
        format!("tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n{more}")
    };
    let right = |more: &str| tls("localhost.pem", "localhost.key", more);
    let cases = [
        ("a: [".to_owned(), "line 1, column "),
        ("- a\n".to_owned(), "line 1, column 1: "),
        ("tls_config: {}\n".to_owned(), "line 1, column 1: there is no such setting here, only tls_server_config"),
        ("http_server_config:\n  http2: true\n".to_owned(), "http2"),
        ("http_server_config:\n  headers:\n    Server: x\n".to_owned(), "only Content-Security-Policy"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: allow\n".to_owned(), "deny or sameorigin"),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\nb\"\n".to_owned(), "X-XSS-Protection"),
        ("rate_limit:\n  burst: 1\n".to_owned(), "rate_limit"),
        ("tls_server_config: {}\n".to_owned(), "cert_file"),
        (right("  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n"), "number 1 is not supported"),
        (right("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n"), "of TLS 1.3 are always there"),
        (
            right("  curve_preferences: [CurveP521]\n"),
            "line 4, column 23: curve_preferences: this is none of CurveP256",
        ),
        (right("  prefer_server_cipher_suites: 3\n"), "boolean"),
        (right("  cert: x\n"), "both cert and cert_file"),
        (right("  client_allowed_sans: [client]\n"), "client_auth_type: RequireAndVerifyClientCert"),
        (right("  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [a@b.c]\n"), "mail addresses"),
        (right("  client_auth_type: RequireAnyClientCert\n  client_ca_file: ca.pem\n"), "client_ca_file has no use"),
        (right("  min_version: TLS10\n"), "TLS12"),
        (right("  min_version: TLS13\n  max_version: TLS12\n"), "min_version is above max_version"),
        (right("  client_auth_type: RequireSomeClientCert\n"), "client_auth_type: this is none of NoClientCert"),
        (right("  client_auth_type: RequireAndVerifyClientCert\n"), "client_ca_file"),
        (right("  client_ca_file: ca.pem\n"), "client_auth_type"),
        (
            right("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: none.pem\n"),
            "client_ca_file: No such file",
        ),
        (right("  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: garbage.pem\n"), "client_ca_file"),
        (tls("none.pem", "localhost.key", ""), "cert_file: No such file"),
        (tls("localhost.pem", "none.key", ""), "key_file: No such file"),
        (tls("empty.pem", "localhost.key", ""), "no certificate"),
        (tls("garbage.pem", "localhost.key", ""), "cert_file"),
        (tls("localhost.pem", "empty.pem", ""), "a private key from key_file: there is none in it"),
        (tls("localhost.pem", "client.key", ""), "cert_file with key_file"),
        (tls("/", "localhost.key", ""), "directory"),
        (tls("/dev/zero", "localhost.key", ""), "longer than"),
        ("basic_auth_users:\n  alice: secret\n".to_owned(), "bcrypt"),
        (
            "basic_auth_users:\n  alice: $2b$31$9GuFJbJ1Qac5tkvghxK3leooNuU2nMKeepFbLTuQPNMWs4tP2rYwG\n".to_owned(),
            "cost",
        ),
        ("basic_auth_users: [alice]\n".to_owned(), "basic_auth_users: "),
        ("basic_auth_users:\n  alice: x\n  alice: y\n".to_owned(), "line 3, column 3: this name is there twice"),
    ];
    for (text, expected) in &cases {
        let (code, stdout, stderr) = check(&folder.write("web-config.yml", text));
        assert_eq!((code, &*stdout, stderr.lines().count()), (Some(2), "", 1), "{text}\n{stderr}");
        assert!(stderr.starts_with("prefault: failed to read the web config "), "{text}\n{stderr}");
        assert!(stderr.contains(expected), "{text}\n{stderr}");
    }
    let (code, _, stderr) = check(&folder.0.join("nowhere.yml"));
    assert!(code == Some(2) && stderr.contains("nowhere.yml: No such file"), "{stderr}");
}

#[test]
fn a_port_in_use_is_one_line_before_anything_is_measured() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_prefault"));
    let output = command.args(["export", "--listen", &address]).output().expect("started");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains(&format!("failed to listen at {address}")) && said.contains("in use"), "{said}");
}
