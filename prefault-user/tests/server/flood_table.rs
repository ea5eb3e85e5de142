//! The floods of `flood.rs`, and guessers of passwords, for longer, beside Debian's node_exporter: prints the table of
//! docs/production.md, which says how to run it.

use std::{
    env,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use tokio_rustls::rustls::{ClientConfig, version::TLS13};

use super::{
    flood::{Flood, From, Outcome, beside, floods},
    harness::{Server, wait_for},
    passwords::{basic, guess},
    raise_descriptor_limit,
    web_config::Folder,
};

const SCRAPES: usize = 10;
/// As the review measured it.
const SILENT_PER_SECOND: u32 = 1500;
const GUESSES_PER_SECOND: u32 = 800;
const GUESSERS: usize = 62;
const COST: u32 = 12;

/// A node_exporter that does little, ended at the end.
struct NodeExporter(Child, SocketAddr);

impl NodeExporter {
    fn start(executable: &str, web_config: Option<&Path>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut command = Command::new(executable);
        command.args(["--collector.disable-defaults", "--collector.loadavg", &format!("--web.listen-address={free}")]);
        command.args(web_config.map(|path| format!("--web.config.file={}", path.display())));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        let node_exporter = Self(child, free);
        wait_for("node_exporter", || TcpStream::connect(free).ok());
        node_exporter
    }
}

impl Drop for NodeExporter {
    fn drop(&mut self) {
        let _unused = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What scrapes come beside.
enum Attack {
    Flood(Flood),
    /// Connections that stay open and guess passwords again and again.
    Guessers,
}

impl Attack {
    fn row(&self) -> String {
        match self {
            Self::Flood(flood) => flood.name.to_owned(),
            Self::Guessers => format!("{GUESSERS} guessers that keep their connections, cost {COST}, http"),
        }
    }

    fn against(&self, server: SocketAddr, client: &Arc<ClientConfig>) -> Outcome {
        let headers = basic("alice:secret");
        match self {
            Self::Flood(flood) => {
                beside(|ends| flood.run(server, ends), server, flood.tls.then_some(client), &headers, SCRAPES)
            }
            Self::Guessers => beside(|ends| guessers(server, ends), server, None, &headers, SCRAPES),
        }
    }

    /// Whether it wants TLS and whether passwords.
    fn wants(&self) -> (bool, bool) {
        match self {
            Self::Flood(flood) => (flood.tls, flood.closes),
            Self::Guessers => (false, true),
        }
    }
}

fn guessers(server: SocketAddr, ends: &AtomicBool) -> u32 {
    thread::scope(|scope| {
        for number in 0..GUESSERS {
            scope.spawn(move || guess(&mut TcpStream::connect(server).expect("connected"), number, ends));
        }
    });
    GUESSERS as u32
}

fn wrong_password(number: u32) -> Vec<u8> {
    let headers = basic(&format!("alice:{number}{}", "x".repeat(5000)));
    format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

fn attacks() -> Vec<Attack> {
    let mut attacks: Vec<Attack> = floods(SILENT_PER_SECOND).into_iter().map(Attack::Flood).collect();
    for (name, from) in [
        ("guesses, each closed at once, from another address, cost 12, http", From::AnotherAddress),
        ("guesses, each closed at once, from the scraper's address, cost 12, http", From::ScrapersAddress),
    ] {
        let per_second = GUESSES_PER_SECOND;
        attacks.push(Attack::Flood(Flood { name, sent: wrong_password, closes: true, per_second, from, tls: false }));
    }
    attacks.push(Attack::Guessers);
    attacks
}

#[test]
#[ignore = "takes minutes, and needs NODE_EXPORTER=path of its executable"]
fn flood_table() {
    raise_descriptor_limit();
    let folder = Folder::new("flood-table");
    let client = folder.client(false, &[&TLS13]);
    let node_exporter = env::var("NODE_EXPORTER").ok();
    let hash = bcrypt::hash("secret", COST).expect("hashed");
    println!("| beside | prefault | node_exporter |\n|---|---|---|");
    for attack in attacks() {
        let web_config = match attack.wants() {
            (true, _) => Some(folder.tls("")),
            (false, true) => Some(folder.write("users.yml", &format!("basic_auth_users:\n  alice: {hash}\n"))),
            (false, false) => None,
        };
        let cell = |Outcome { worked, tried, longest, per_second }: Outcome| {
            format!("{worked}/{tried}, worst {} ms, {per_second:.0}/s", longest.as_millis())
        };
        let prefault = {
            let server = Server::start(web_config.clone(), None);
            cell(attack.against(server.address, &client))
        };
        let node_exporter = node_exporter.as_ref().map_or("not measured".to_owned(), |executable| {
            let server = NodeExporter::start(executable, web_config.as_deref());
            cell(attack.against(server.1, &client))
        });
        println!("| {} | {prefault} | {node_exporter} |", attack.row());
    }
}
