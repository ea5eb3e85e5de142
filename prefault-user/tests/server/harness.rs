//! The real server on a thread of its own, fed with a fixed snapshot, and clients that say exactly what they are told to.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex, mpsc::channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use prefault_user::{
    cli::address::Address,
    exporter::{
        access::AccessWatch,
        address::{Listener, bind},
        answer::Shared,
        server,
    },
    output::exposition::Buckets,
};
use tokio::sync::{mpsc, oneshot};

use super::{exported, snapshots};

/// What nothing here takes as long as.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A server that runs; it ends with this.
pub struct Server {
    /// Where it answers.
    pub address: SocketAddr,
    complaints: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one that answers at a free port, and at `unix` too.
    pub fn start(web_config: Option<PathBuf>, unix: Option<PathBuf>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = channel();
        let complaints = Arc::<Mutex<Vec<String>>>::default();
        let said = Arc::clone(&complaints);
        let thread = thread::spawn(move || {
            // As the exporter's own.
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().max_blocking_threads(2).build().expect("a runtime");
            runtime.block_on(async move {
                let mut listeners = bind(&"127.0.0.1:0".parse().expect("well formed")).expect("bound");
                let Listener::Tcp(listener) = &listeners[0] else { unreachable!("it is of TCP") };
                let address = listener.local_addr().expect("an address");
                listeners.extend(unix.into_iter().flat_map(|path| bind(&Address::Unix(path)).expect("bound")));
                let mut access = AccessWatch::begin(web_config.as_deref()).expect("right");
                // Whoever waits for it may change the web config at once.
                bound.send(address).expect("somebody waits");
                let (asks, mut questions) = mpsc::channel(4);
                let shared = Shared { asks, access: access.subscribe(), buckets: Buckets::default() };
                let exported = Arc::new(exported::exported(&snapshots::end(), None));
                let answers = async move {
                    while let Some(ask) = questions.recv().await {
                        // Whoever asked may have gone.
                        let _unused = oneshot::Sender::send(ask, Ok(Arc::clone(&exported)));
                    }
                };
                tokio::select! {
                    () = server::serve(listeners, Arc::new(shared)) => {}
                    () = answers => {}
                    () = watch(&mut access, &said) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("the server is bound");
        Self { address, complaints, stop: Some(stop), thread: Some(thread) }
    }

    /// A new connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    /// What was said of web configs that were read again, each once.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.complaints.lock().expect("nobody panicked").clone();
        complaints.dedup();
        complaints
    }

    /// Waits for something to be said of web configs.
    pub fn expect_complaint(&self) -> String {
        wait_for("a complaint", || self.complaints().pop())
    }

    /// A new connection from one of the addresses of this host.
    pub fn connect_from(&self, address: &str) -> TcpStream {
        connect_from(address, self.address).expect("connected")
    }

    /// Demands that a scrape works.
    pub fn expect_scrape(&self) {
        let answer = get(&mut self.connect(), "/metrics", "");
        assert!(answer.head.starts_with("HTTP/1.1 200 "), "{}", answer.head);
        assert!(answer.body.starts_with(b"# HELP prefault_up"));
    }
}

/// Waits until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "there is no {what} after {LIMIT:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A connection from one of the addresses of this host to another one.
pub fn connect_from(from: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from.parse().expect("an address"), 0).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Reads web configs again as the exporter does, and collects what it would say.
async fn watch(access: &mut AccessWatch, said: &Mutex<Vec<String>>) {
    loop {
        if let Err(error) = access.follow().await {
            said.lock().expect("nobody panicked").push(format!("{error:#}"));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking(), "the server panicked");
    }
}

/// An answer, taken apart.
pub struct Answer {
    /// Status line and headers.
    pub head: String,
    /// The rest.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The status.
    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// Asks for `path` with further header lines, and takes the answer until the server closes the connection.
pub fn get(stream: &mut (impl Read + Write), path: &str, headers: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    ask(stream, request.as_bytes())
}

/// Sends bytes and takes the answer until the server closes the connection.
pub fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> Answer {
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // A server that has not read everything resets the connection, and TLS wants to be told of the end.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {}
        Err(error) => panic!("failed to read the answer: {error}"),
    }
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
    let body = answer.split_off(end);
    Answer { head: String::from_utf8_lossy(&answer).into_owned(), body }
}
