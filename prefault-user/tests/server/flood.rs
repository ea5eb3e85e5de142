//! Floods of connections, and a scraper beside them that is some milliseconds away.
//!
//! This is short; `flood_table.rs` measures the same for longer, beside Debian's node_exporter.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned, version::TLS13};

use super::{
    harness::{Server, connect_from},
    raise_descriptor_limit,
    web_config::Folder,
};

/// From the scraper to the server, and as long back.
const AWAY: Duration = Duration::from_millis(25);
/// Prometheus' default.
const SCRAPE_LIMIT: Duration = Duration::from_secs(10);
/// Between two scrapes.
const PAUSE: Duration = Duration::from_millis(50);
/// From the beginning of a flood to the first scrape.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// Connections that a flood keeps open at once.
const MOST_KEPT: usize = 3000;

/// Where a flood comes from; scrapes come from 127.0.0.1.
#[derive(Clone, Copy, PartialEq)]
pub enum From {
    ScrapersAddress,
    AnotherAddress,
    Addresses(u32),
}

impl From {
    fn address(self, number: u32) -> Ipv4Addr {
        match self {
            Self::ScrapersAddress => Ipv4Addr::LOCALHOST,
            Self::AnotherAddress => Ipv4Addr::new(127, 0, 0, 2),
            Self::Addresses(n) => Ipv4Addr::from_bits(0x7f01_0000 + number % n),
        }
    }
}

/// What comes in a flood, each on a connection of its own.
pub struct Flood {
    pub name: &'static str,
    /// What is sent on each, by its number.
    pub sent: fn(u32) -> Vec<u8>,
    /// Whether it is closed at once, or kept as long as the server keeps it.
    pub closes: bool,
    pub per_second: u32,
    pub from: From,
    pub tls: bool,
}

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

/// The beginning of a record of a handshake of 512 bytes.
fn part_of_a_handshake(_: u32) -> Vec<u8> {
    vec![22, 3, 1, 2, 0, 1]
}

fn request(_: u32) -> Vec<u8> {
    b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()
}

impl Flood {
    /// Opens connections until told to end, and says how many.
    pub fn run(&self, to: SocketAddr, ends: &AtomicBool) -> u32 {
        let begun = Instant::now();
        let (mut kept, mut number) = (VecDeque::new(), 0);
        while !ends.load(Ordering::Relaxed) {
            while number < (begun.elapsed().as_secs_f64() * f64::from(self.per_second)) as u32 {
                if let Some(socket) = self.open(to, number).filter(|_| !self.closes) {
                    kept.push_back(socket);
                }
                number += 1;
                if kept.len() > MOST_KEPT {
                    kept.pop_front();
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
        number
    }

    fn open(&self, to: SocketAddr, number: u32) -> Option<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        no_port_yet(&socket);
        socket.bind(&SocketAddr::new(self.from.address(number).into(), 0).into()).ok()?;
        // On loopback a connection is there at once, unless the server has no room for more: nobody waits for that.
        socket.set_nonblocking(true).ok()?;
        let _unused = socket.connect(&to.into());
        let _unused = (&socket).write(&(self.sent)(number));
        Some(socket)
    }
}

/// The port is chosen when both addresses are known: there are as many as there are others.
fn no_port_yet(socket: &Socket) {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option's value lives through the call.
    let set = unsafe {
        let on = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, on, length)
    };
    assert_eq!(set, 0, "the option is known since Linux 4.2");
}

/// Passes connections on to a server, everything a while later: what goes through it is far away.
fn far_away(from: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            thread::spawn(move || {
                thread::sleep(AWAY);
                let Ok(far) = connect_from("127.0.0.1", from) else { return };
                let both = |stream: &TcpStream| stream.try_clone().expect("a copy");
                delay(both(&near), both(&far));
                delay(far, near);
            });
        }
    });
    address
}

/// Passes on what comes, a while later.
fn delay(mut from: TcpStream, mut to: TcpStream) {
    let (sends, receives) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (at, bytes) in receives {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _unused = to.shutdown(std::net::Shutdown::Both);
    });
    thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(n_bytes) = from.read(&mut bytes) {
            if sends.send((Instant::now() + AWAY, bytes[..n_bytes].to_vec())).is_err() || n_bytes == 0 {
                break;
            }
        }
    });
}

/// Whether a scrape works, on a connection of its own.
fn scrape(to: SocketAddr, tls: Option<&Arc<ClientConfig>>, headers: &str) -> bool {
    let Ok(stream) = connect_from("127.0.0.1", to) else { return false };
    stream.set_read_timeout(Some(SCRAPE_LIMIT)).expect("a limit");
    let ask = |stream: &mut dyn ReadWrite| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        let mut answer = Vec::new();
        let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
        let _unused = asked.and_then(|()| stream.read_to_end(&mut answer));
        answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > 1000
    };
    match tls {
        None => ask(&mut { stream }),
        Some(client) => {
            let name = "localhost".try_into().expect("a name");
            let connection = ClientConnection::new(Arc::clone(client), name).expect("a client");
            ask(&mut StreamOwned::new(connection, stream))
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// How many scrapes worked of how many beside a flood, the longest of them, and connections of the flood per second.
pub struct Outcome {
    pub worked: usize,
    pub tried: usize,
    pub longest: Duration,
    pub per_second: f64,
}

/// Scrapes with further header lines, beside something that runs until it is told to end.
pub fn beside(
    flood: impl Fn(&AtomicBool) -> u32 + Sync,
    server: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    headers: &str,
    tried: usize,
) -> Outcome {
    let (ends, n_connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    let far = far_away(server);
    let begun = Instant::now();
    let mut outcome = Outcome { worked: 0, tried, longest: Duration::ZERO, per_second: 0.0 };
    thread::scope(|scope| {
        scope.spawn(|| n_connections.store(flood(&ends) as usize, Ordering::Relaxed));
        // It is under way.
        thread::sleep(UNDER_WAY);
        for _ in 0..tried {
            let scraped = Instant::now();
            outcome.worked += usize::from(scrape(far, tls, headers));
            outcome.longest = outcome.longest.max(scraped.elapsed());
            thread::sleep(PAUSE);
        }
        ends.store(true, Ordering::Relaxed);
    });
    outcome.per_second = n_connections.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    outcome
}

/// Floods of each kind.
pub fn floods(per_second: u32) -> Vec<Flood> {
    let flood = |name, sent, from, tls| Flood { name, sent, closes: false, per_second, from, tls };
    vec![
        flood("silent, from another address, TLS", nothing, From::AnotherAddress, true),
        flood("silent, from the scraper's address, TLS", nothing, From::ScrapersAddress, true),
        flood("silent, from 10,000 addresses, TLS", nothing, From::Addresses(10_000), true),
        flood("begun handshakes, from another address", part_of_a_handshake, From::AnotherAddress, true),
        flood("silent, from the scraper's address, http", nothing, From::ScrapersAddress, false),
        flood("one request each, kept open, from another address, http", request, From::AnotherAddress, false),
    ]
}

#[test]
fn floods_keep_no_scraper_out() {
    raise_descriptor_limit();
    let folder = Folder::new("flood");
    let (tls, http) = (Server::start(Some(folder.tls("")), None), Server::start(None, None));
    let client = folder.client(false, &[&TLS13]);
    for flood in floods(500) {
        let server = if flood.tls { &tls } else { &http };
        let (address, tls) = (server.address, flood.tls.then_some(&client));
        // On a busy machine the scraper itself may be too slow now and then.
        let holds = (0..3).any(|_| {
            let Outcome { worked, tried, per_second, longest } =
                beside(|ends| flood.run(address, ends), address, tls, "", 3);
            println!("{}: {worked}/{tried} at {per_second:.0}/s, at most {longest:?}", flood.name);
            worked == tried && per_second > 150.0
        });
        assert!(holds, "{}", flood.name);
    }
}
