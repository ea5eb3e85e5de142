//! Guessers of passwords: that they keep no scraper out, and that they take no more memory the more they are.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    harness::{Server, get},
    web_config::Folder,
};

/// Header lines with these credentials.
pub fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(credentials))
}

/// What is tried here with cost 12 by `flood_table.rs`, at a quarter of its time.
const COST: u32 = 10;

/// A web config with two users, alice and bob, whose password is `secret`.
fn server(folder: &Folder, cost: u32) -> Server {
    let hash = bcrypt::hash("secret", cost).expect("hashed");
    let config = format!("basic_auth_users:\n  alice: {hash}\n  bob: {hash}\n");
    Server::start(Some(folder.write("web-config.yml", &config)), None)
}

/// Asks again and again on one connection, with another wrong password each time; counts the answers.
pub fn guess(stream: &mut TcpStream, number: usize, ends: &AtomicBool) {
    let mut bytes = [0; 4096];
    for guess in 0.. {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", basic(&format!("alice:{number}-{guess}")));
        let is_answered = stream.write_all(request.as_bytes()).is_ok() && stream.read(&mut bytes).is_ok_and(|n| n > 0);
        if !is_answered || ends.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// How long one hash takes now, beside everything else.
fn one_hash(cost: u32) -> Duration {
    let begun = Instant::now();
    bcrypt::hash("x", cost).expect("hashed");
    begun.elapsed()
}

#[test]
fn guessers_on_connections_that_stay_open_keep_no_scraper_out_after_a_start() {
    let folder = Folder::new("guessers");
    let server = server(&folder, COST);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..62 {
            let mut stream = server.connect();
            let ends = &ends;
            scope.spawn(move || guess(&mut stream, number, ends));
        }
        thread::sleep(Duration::from_secs(1));
        // From another address, and from the guessers' own.
        let limit = 10 * one_hash(COST).max(one_hash(COST));
        let outcomes = ["127.0.0.2", "127.0.0.1"].map(|address| {
            let begun = Instant::now();
            // Another user each time: who was let in is not hashed again.
            let mut stream = server.connect_from(address);
            let user = if address == "127.0.0.2" { "alice" } else { "bob" };
            let status = get(&mut stream, "/metrics", &basic(&format!("{user}:secret"))).status().to_owned();
            (status, begun.elapsed())
        });
        ends.store(true, Ordering::Relaxed);
        for (status, took) in outcomes {
            assert!(status == "200" && took < limit, "{status} after {took:?}, more than {limit:?}");
        }
    });
}

#[test]
fn guessers_that_find_no_room_are_told_when_to_come_again() {
    let folder = Folder::new("busy");
    let server = server(&folder, COST);
    let streams: Vec<TcpStream> = (0..60)
        .map(|number| {
            let mut stream = server.connect();
            let headers = basic(&format!("alice:{number}"));
            write!(stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").expect("sent");
            stream
        })
        .collect();
    let statuses: Vec<String> = streams
        .into_iter()
        .map(|mut stream| {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            assert!(!answer.starts_with("HTTP/1.1 429") || answer.contains("\r\nretry-after: "), "{answer}");
            answer[9..12].to_owned()
        })
        .collect();
    assert!(statuses.iter().all(|status| status == "401" || status == "429"), "{statuses:?}");
    assert!(statuses.iter().any(|status| status == "429"), "{statuses:?}");
}

/// Resident memory of this process in KiB.
fn resident_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there is a number");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Runs in a process of its own, because other tests take memory too.
#[test]
#[ignore = "run by the test below"]
fn a_flood_of_guesses() {
    let folder = Folder::new("memory");
    let server = server(&folder, COST);
    let ends = AtomicBool::new(false);
    let long = "x".repeat(5000);
    let flood = |n_requests: usize| {
        for number in (0..n_requests).take_while(|_| !ends.load(Ordering::Relaxed)) {
            let mut stream = server.connect();
            let headers = basic(&format!("alice:{number}{long}"));
            // The client closes at once, and does not wait for the answer.
            let _unused = write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            thread::sleep(Duration::from_millis(2));
        }
    };
    flood(100);
    let begin = resident_kib();
    flood(1500);
    let grown = resident_kib() - begin;
    // Beside it, somebody who has not been let in yet.
    thread::scope(|scope| {
        scope.spawn(|| flood(usize::MAX));
        thread::sleep(Duration::from_millis(500));
        let limit = 10 * one_hash(COST).max(one_hash(COST));
        let begun = Instant::now();
        let answer = get(&mut server.connect_from("127.0.0.2"), "/metrics", &basic("alice:secret"));
        ends.store(true, Ordering::Relaxed);
        let took = begun.elapsed();
        println!("{grown} KiB more; {} after {took:?}", answer.status());
        assert!(answer.status() == "200" && took < limit, "{} after {took:?}", answer.status());
    });
    // What connections may hold at most, the first of which there were before.
    assert!(grown < 8 * 1024, "1500 requests took {grown} KiB");
}

#[test]
fn a_flood_of_guesses_takes_no_memory_and_keeps_nobody_out() {
    let this = std::env::current_exe().expect("known");
    let arguments = ["--ignored", "--exact", "--nocapture", "passwords::a_flood_of_guesses"];
    let output = Command::new(this).args(arguments).output().expect("started");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
