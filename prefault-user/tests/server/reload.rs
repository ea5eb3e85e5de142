//! Web configs that change while the server runs: what is used, what is not, and what becomes of connections.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use prefault_user::exporter::web_config::WebConfig;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::{
    harness::{Server, get, wait_for},
    passwords::basic,
    web_config::{Folder, scrapes, tls},
};

/// Longer than it takes to see that a file has changed.
const SEEN: Duration = Duration::from_millis(2500);

fn users(password: &str) -> String {
    format!("basic_auth_users:\n  alice: {}\n", bcrypt::hash(password, 4).expect("hashed"))
}

/// Everything that a web config can protect by.
fn full(folder: &Folder) -> (PathBuf, String) {
    let verified = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let more = format!(
        "{verified}  client_allowed_sans: [client]\n  min_version: TLS13\n  curve_preferences: [X25519]\n\
         http_server_config:\n  headers:\n    X-Frame-Options: deny\n{}",
        users("secret")
    );
    let path = folder.tls(&more);
    let full = fs::read_to_string(&path).expect("readable");
    (path, full)
}

#[test]
fn what_a_web_config_protects_from_no_longer_is_found() {
    let folder = Folder::new("less");
    let (path, full) = full(&folder);
    let protection = |text: &str| {
        fs::write(&path, text).expect("written");
        WebConfig::read(&path).config.expect("right").protection
    };
    let begin = protection(&full);
    let no_sans = full.replace("  client_allowed_sans: [client]\n", "");
    let cases = [
        (String::new(), "TLS, basic_auth_users, the header x-frame-options"),
        ("# being written\n".to_owned(), "TLS, basic_auth_users, the header x-frame-options"),
        (users("secret"), "TLS, the header x-frame-options"),
        (
            full[..full.find("http_server").expect("it is there")].to_owned(),
            "basic_auth_users, the header x-frame-options",
        ),
        (full[..full.find("basic_auth").expect("it is there")].to_owned(), "basic_auth_users"),
        (full.replace("    X-Frame-Options: deny\n", ""), "the header x-frame-options"),
        (no_sans.clone(), "client_allowed_sans"),
        (full.replace("  min_version: TLS13\n", ""), "min_version"),
        (full.replace("  curve_preferences: [X25519]\n", ""), "curve_preferences"),
        (
            no_sans.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
            "client_auth_type, client_allowed_sans",
        ),
        (full.replace("RequireAndVerify", "RequireAny").replace("  client_ca_file: ca.pem\n", ""), "client_auth_type"),
        (full.replace("X25519", "X25519, CurveP256"), "curve_preferences"),
        // As much or more.
        (full.replace("deny", "sameorigin"), ""),
        (full.replace("[client]", "[another]"), ""),
        (full.replace("alice", "bob"), ""),
        (full.clone() + &users("x").replace("basic_auth_users:\n  alice", "  carol"), ""),
    ];
    for (text, expected) in &cases {
        assert_eq!(begin.lost_in(&protection(text)).join(", "), *expected, "{text}");
    }
    // Cipher suites count where there is TLS 1.2.
    let suites = full.replace("min_version: TLS13", "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]");
    let all = protection(&full.replace("  min_version: TLS13\n", ""));
    assert_eq!(protection(&suites).lost_in(&all), ["cipher_suites"]);
    assert!(all.lost_in(&protection(&suites)).is_empty() && all.lost_in(&begin).is_empty());
}

#[test]
fn no_reload_lowers_protection() {
    let folder = Folder::new("lowered");
    let (path, full) = full(&folder);
    let server = Server::start(Some(path.clone()), None);
    let ask = |headers: &str| get(&mut tls(&server, &folder.client(true, &[&TLS13])), "/metrics", headers);
    let is_as_it_was = || {
        !scrapes(&server, &folder.client(false, &[&TLS13]))
            && !scrapes(&server, &folder.client(true, &[&TLS12]))
            && ask("").status() == "401"
            && ask(&basic("alice:secret")).header("x-frame-options") == Some("deny")
    };
    let said = |part: &str| wait_for(part, || server.complaints().into_iter().find(|said| said.contains(part)));
    fs::write(&path, "").expect("emptied");
    let complaint = said("lacks TLS, basic_auth_users, the header x-frame-options");
    assert!(complaint.lines().count() == 1 && complaint.contains("a restart would"), "{complaint}");
    assert!(is_as_it_was());
    // It is said once, also when it is looked at again.
    thread::sleep(SEEN);
    assert_eq!(server.complaints().len(), 1);
    fs::remove_file(&path).expect("removed");
    said("No such file");
    assert!(is_as_it_was());
    fs::write(&path, full.replace("deny", "sameorigin")).expect("written");
    wait_for("new header", || {
        (ask(&basic("alice:secret")).header("x-frame-options") == Some("sameorigin")).then_some(())
    });
}

/// Whether a connection that is open is answered at once again, or has been closed.
fn is_answered(stream: &mut (impl std::io::Read + std::io::Write), headers: &str) -> bool {
    let mut bytes = [0; 65536];
    let asked = write!(stream, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n{headers}\r\n").and_then(|()| stream.flush());
    asked.is_ok() && stream.read(&mut bytes).is_ok_and(|n_bytes| bytes[..n_bytes].starts_with(b"HTTP/1.1 200 "))
}

#[test]
fn those_who_may_no_longer_ask_do_not_on_a_connection_that_is_open() {
    let folder = Folder::new("revoked");
    let more = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let server = Server::start(Some(folder.tls(more)), None);
    let revoked = folder.client(true, &[&TLS13]);
    let mut kept = tls(&server, &revoked);
    let mut halfway = tls(&server, &revoked);
    assert!(is_answered(&mut kept, "") && is_answered(&mut kept, "") && is_answered(&mut halfway, ""));
    halfway.write_all(b"GET /-/healthy HTTP/1.1\r\n").and_then(|()| halfway.flush()).expect("sent");
    let other = Folder::new("other-authority");
    fs::copy(other.0.join("ca.pem"), folder.0.join("ca.pem")).expect("copied");
    // No request is made meanwhile: the connection is closed all the same.
    kept.sock.set_read_timeout(Some(2 * SEEN)).expect("a limit");
    assert!(kept.read(&mut [0]).is_ok_and(|n_bytes| n_bytes == 0), "the connection is open");
    let _unused = halfway.write_all(b"Host: x\r\n\r\n").and_then(|()| halfway.flush());
    let mut answer = Vec::new();
    let _unused = halfway.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn users_that_change_end_connections_and_those_that_do_not_change_nothing() {
    let folder = Folder::new("changed-users");
    let (path, old) = (folder.0.join("web-config.yml"), users("old"));
    fs::write(&path, &old).expect("written");
    let server = Server::start(Some(path.clone()), None);
    let mut kept = server.connect();
    assert!(is_answered(&mut kept, &basic("alice:old")));
    // The same content in another file is no change.
    folder.write("same.yml", &old);
    fs::rename(folder.0.join("same.yml"), &path).expect("renamed");
    thread::sleep(SEEN);
    assert!(is_answered(&mut kept, &basic("alice:old")));
    fs::write(&path, users("new")).expect("written");
    assert!(kept.read(&mut [0]).is_ok_and(|n_bytes| n_bytes == 0), "the connection is open");
    let status = |password: &str| get(&mut server.connect(), "/", &basic(password)).status().to_owned();
    assert_eq!((status("alice:old"), status("alice:new")), ("401".to_owned(), "200".to_owned()));
}

/// Gives a file its times back.
fn set_modified(path: &Path, modified: std::time::SystemTime) {
    let file = fs::File::options().write(true).open(path).expect("opened");
    file.set_modified(modified).expect("set");
}

#[test]
fn a_change_that_keeps_the_modification_time_is_seen() {
    let folder = Folder::new("kept-time");
    let path = folder.write("web-config.yml", &users("old"));
    let an_hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    set_modified(&path, an_hour_ago);
    let server = Server::start(Some(path.clone()), None);
    thread::sleep(SEEN);
    let before = fs::metadata(&path).expect("there").size();
    fs::write(&path, users("new")).expect("written");
    set_modified(&path, an_hour_ago);
    assert_eq!(fs::metadata(&path).expect("there").size(), before);
    wait_for("new password", || (get(&mut server.connect(), "/", &basic("alice:new")).status() == "200").then_some(()));
}

#[test]
fn a_change_while_files_are_read_is_seen() {
    // Two files that only belong together when both have been written, one long after the other.
    let (folder, renewed) = (Folder::new("between"), Folder::new("between-new"));
    let server = Server::start(Some(folder.tls("")), None);
    fs::copy(renewed.0.join("localhost.pem"), folder.0.join("localhost.pem")).expect("copied");
    server.expect_complaint();
    // Where the config names a file that comes later, that one is looked at too.
    let text = "tls_server_config:\n  cert_file: localhost.pem\n  key_file: late.key\n";
    folder.write("web-config.yml", text);
    wait_for("complaint", || server.complaints().iter().any(|said| said.contains("key_file: No such")).then_some(()));
    fs::copy(renewed.0.join("localhost.key"), folder.0.join("late.key")).expect("copied");
    wait_for("new key", || scrapes(&server, &renewed.client(false, &[&TLS13])).then_some(()));
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_holds_nobody_up() {
    let folder = Folder::new("hung");
    let server = Server::start(Some(folder.tls("")), None);
    let client = folder.client(false, &[&TLS13]);
    assert!(scrapes(&server, &client));
    // Nobody writes into this pipe: whoever opens it waits, as on a file server that hangs.
    let key = folder.0.join("localhost.key");
    fs::remove_file(&key).expect("removed");
    let made = std::process::Command::new("mkfifo").arg(&key).status().expect("started");
    assert!(made.success());
    let said = wait_for("complaint", || {
        let begun = std::time::Instant::now();
        assert!(scrapes(&server, &client));
        assert!(begun.elapsed() < Duration::from_secs(2), "a scrape took {:?}", begun.elapsed());
        server.complaints().pop()
    });
    assert!(said.contains("cannot be read since 10 s"), "{said}");
    // The thread that waits is let go, so that this process can end.
    fs::write(&key, "").expect("written");
}
