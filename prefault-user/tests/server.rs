//! The exporter's server over loopback, with clients of every kind: what they get, and that none harms another.

#[path = "output/exported.rs"]
mod exported;
#[path = "server/flood.rs"]
mod flood;
#[path = "server/flood_table.rs"]
mod flood_table;
#[path = "server/harness.rs"]
mod harness;
#[path = "server/passwords.rs"]
mod passwords;
#[path = "server/reload.rs"]
mod reload;
#[path = "server/secrets.rs"]
mod secrets;
#[path = "output/snapshots.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod snapshots;
#[path = "server/tls.rs"]
mod tls;
#[path = "server/web_config.rs"]
mod web_config;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use harness::{Server, ask, get};

fn server() -> Server {
    Server::start(None, None)
}

#[test]
fn every_path_has_its_answer() {
    let server = server();
    for (path, status, content_type, part) in [
        ("/", "200", "text/html; charset=utf-8", "<!DOCTYPE html>"),
        ("/metrics", "200", "text/plain; version=0.0.4; charset=utf-8", "# TYPE prefault_writes_total counter"),
        ("/metrics?a=b", "200", "text/plain; version=0.0.4; charset=utf-8", "prefault_up 1"),
        ("/-/healthy", "200", "text/plain; charset=utf-8", "healthy\n"),
        ("/-/ready", "200", "text/plain; charset=utf-8", "ready\n"),
        ("/metrics/", "404", "text/plain; charset=utf-8", "/metrics"),
        ("/../etc/passwd", "404", "text/plain; charset=utf-8", "/metrics"),
    ] {
        let answer = get(&mut server.connect(), path, "");
        assert_eq!((answer.status(), answer.header("content-type")), (status, Some(content_type)), "{path}");
        assert!(String::from_utf8_lossy(&answer.body).contains(part), "{path}");
    }
}

#[test]
fn a_client_gets_the_format_it_wants() {
    let server = server();
    for (accept, content_type, begin) in [
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8", &b"# HELP"[..]),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8", b"# HELP"),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            b"",
        ),
    ] {
        let answer = get(&mut server.connect(), "/metrics", &format!("Accept: {accept}\r\n"));
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert!(answer.body.len() > 1000 && answer.body.starts_with(begin));
    }
}

#[test]
fn answers_are_compressed_for_who_wants_that() {
    let server = server();
    for (path, accept) in [
        ("/", "*/*"),
        ("/metrics", "text/plain"),
        ("/metrics", "application/openmetrics-text"),
        ("/metrics", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"),
    ] {
        let accept = format!("Accept: {accept}\r\n");
        let plain = get(&mut server.connect(), path, &accept);
        assert_eq!(plain.header("content-encoding"), None);
        let packed =
            get(&mut server.connect(), path, &format!("{accept}Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n"));
        assert_eq!((packed.status(), packed.header("content-encoding")), ("200", Some("gzip")));
        assert_eq!(packed.header("content-type"), plain.header("content-type"));
        assert!(packed.header("vary").is_some_and(|vary| vary.contains("accept-encoding")));
        let mut unpacked = Vec::new();
        GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).expect("whole");
        assert!(packed.body.len() < plain.body.len() / 2, "{} of {} bytes", packed.body.len(), plain.body.len());
        assert_eq!(unpacked, plain.body);
    }
}

#[test]
fn hostile_encodings_hurt_nobody() {
    let server = server();
    let begun = Instant::now();
    for accept in
        ["gzip,".repeat(1500), "gzip;q=0.".to_owned() + &"9".repeat(7500), ";".repeat(7500), "*;q=1e999".to_owned()]
    {
        let answer = get(&mut server.connect(), "/metrics", &format!("Accept-Encoding: {accept}\r\n"));
        assert_eq!(answer.status(), "200", "{}", &accept[..9]);
    }
    // Neither does who wants none of what there is.
    let refused = get(&mut server.connect(), "/metrics", "Accept-Encoding: identity;q=0, gzip;q=0\r\n");
    assert_eq!((refused.status(), refused.header("content-encoding")), ("200", None));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn only_get_and_head_are_answered() {
    let server = server();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let request =
            format!("{method} /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let answer = ask(&mut server.connect(), request.as_bytes());
        assert_eq!((answer.status(), answer.header("allow")), ("405", Some("GET, HEAD")), "{method}");
    }
    let head = ask(&mut server.connect(), b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status(), head.body.len()), ("200", 0));
    assert!(head.header("content-length").is_some_and(|length| length.len() >= 4));
}

#[test]
fn a_connection_can_be_used_again() {
    let server = server();
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).expect("an answer");
        assert!(answer[..length].ends_with(b"healthy\n"));
    }
}

#[test]
fn a_client_that_says_no_more_still_gets_its_answer() {
    let server = server();
    for request in ["GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "GET /metrics HTTP/1.0\r\n\r\n"] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write)).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains(" 200 OK\r\n") && answer.contains("prefault_up 1"), "{} bytes", answer.len());
    }
}

#[test]
fn a_unix_socket_is_answered_at_and_goes_with_the_server() {
    let path = std::env::temp_dir().join(format!("prefault-server-{}.sock", std::process::id()));
    let server = Server::start(None, Some(path.clone()));
    server.expect_scrape();
    let answer = get(&mut UnixStream::connect(&path).expect("connected"), "/metrics", "");
    assert_eq!(answer.status(), "200");
    drop(server);
    assert!(!path.exists());
}

#[test]
fn headers_beyond_the_limit_are_refused() {
    let server = server();
    let long = format!("X: {}\r\n", "x".repeat(8 * 1024));
    assert_eq!(get(&mut server.connect(), "/metrics", &long).status(), "431");
    assert_eq!(get(&mut server.connect(), "/metrics", &"X: y\r\n".repeat(200)).status(), "431");
    server.expect_scrape();
}

/// A generator of random numbers whose sequence is the same each time (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// A request that is cut off, changed, repeated, or nothing but noise.
fn malformed(random: &mut Random) -> Vec<u8> {
    const REQUESTS: [&str; 5] = [
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\nbody",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "GET /-/ready HTTP/1.0\r\nAuthorization: Basic dXNlcjpwYXNzd29yZA==\r\nConnection: keep-alive\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut bytes = REQUESTS[random.below(REQUESTS.len())].as_bytes().to_vec();
    match random.below(4) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            for _ in 0..=random.below(8) {
                let place = random.below(bytes.len());
                bytes[place] = random.next() as u8;
            }
        }
        2 => bytes = bytes.repeat(1 + random.below(4)),
        _ => bytes = (0..random.below(600)).map(|_| random.next() as u8).collect(),
    }
    bytes
}

#[test]
fn malformed_requests_end_nothing() {
    let server = server();
    let mut random = Random(2026);
    for round in 0..5_000 {
        let mut stream = server.connect();
        // The server may have closed the connection already.
        let _unused = stream.write_all(&malformed(&mut random)).and_then(|()| stream.shutdown(Shutdown::Write));
        let _unused = stream.read_to_end(&mut Vec::new());
        if round % 500 == 0 {
            server.expect_scrape();
        }
    }
    server.expect_scrape();
}

/// As many descriptors as this process may have.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through both calls.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max.min(8192);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    assert!(raised && limit.rlim_cur > 2000, "too few descriptors are allowed here: {}", limit.rlim_cur);
}

#[test]
fn a_thousand_connections_that_never_finish_keep_nobody_out() {
    raise_descriptor_limit();
    let server = server();
    // The oldest of all, but it asks.
    let mut kept = server.connect();
    let mut stuck: Vec<TcpStream> = Vec::new();
    for number in 0..1000 {
        let mut stream = server.connect();
        let part = ["", "G", "GET /metrics HTTP/1.1\r\nHost: x\r\n", "GET /metrics HTTP/1.1\r\nX: "][number % 4];
        stream.write_all(part.as_bytes()).expect("sent");
        stuck.push(stream);
        if number % 50 == 0 {
            let begun = Instant::now();
            expect_health(&mut kept);
            server.expect_scrape();
            assert!(begun.elapsed() < Duration::from_secs(5), "a scrape took {:?}", begun.elapsed());
        }
    }
    server.expect_scrape();
    // Those that are too many were closed, the rest is still waited for.
    let open = stuck.iter().filter(|stream| is_open(stream)).count();
    assert!((1..=576).contains(&open), "{open} are open");
}

/// Asks, and leaves the connection open.
fn expect_health(kept: &mut TcpStream) {
    kept.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"healthy\n") {
        let n_bytes = kept.read(&mut bytes).expect("an answer");
        assert!(n_bytes > 0, "the connection was closed");
        answer.extend_from_slice(&bytes[..n_bytes]);
    }
}

fn is_open(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("set");
    stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn clients_that_do_not_read_hold_nobody_up() {
    let server = server();
    let greedy: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = server.connect();
            stream.set_write_timeout(Some(Duration::from_millis(20))).expect("a limit");
            let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
            // Once its answers are not taken the server reads no further.
            let _unused = stream.write_all(&requests);
            stream
        })
        .collect();
    for _ in 0..20 {
        let begun = Instant::now();
        server.expect_scrape();
        assert!(begun.elapsed() < Duration::from_secs(2), "a scrape took {:?}", begun.elapsed());
    }
    drop(greedy);
}

#[test]
fn clients_that_stop_are_hung_up_on() {
    let server = server();
    let mut slow = server.connect();
    let mut deaf = server.connect();
    deaf.set_write_timeout(Some(Duration::from_millis(20))).expect("a limit");
    let _unused = deaf.write_all(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000));
    let begun = Instant::now();
    // A byte now and then does not help.
    while slow.write_all(b"G").is_ok() && begun.elapsed() < Duration::from_secs(40) {
        thread::sleep(Duration::from_millis(250));
    }
    assert!((15..40).contains(&begun.elapsed().as_secs()), "hung up after {:?}", begun.elapsed());
    // What was under way can still be read, and then there is no more: all answers were 56 MB.
    let mut answers = Vec::new();
    let _unused = deaf.read_to_end(&mut answers);
    assert!(answers.len() < 40_000_000, "{} bytes were answered", answers.len());
}

#[test]
fn many_scrape_at_once() {
    let server = server();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..20).for_each(|_| server.expect_scrape()));
        }
    });
}
