//! Gives up privileges as the tool does, then tries what is left and what is not, for the tests: what has to go on, and what
//! an attacker would do next. One line for each attempt: its name and `done`, or the error's number.
//!
//! `confined [--without-landlock] FOLDER [UID:GID]`: FOLDER holds `readable`, `writable` and `other`, each a folder with a
//! file `file`.

mod calls;
mod files;
mod probes;
mod sockets;

use std::{
    env, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use caps::CapsHashSet;
use prefault_user::{
    exporter::privilege::{Confinement, capabilities, user::Account},
    output::security,
};

use probes::Entry;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1).peekable();
    let without_landlock = arguments.next_if_eq("--without-landlock").is_some();
    let folder: PathBuf = arguments.next().context("no folder was given")?.into();
    let account: Option<Account> = arguments.next().map(|account| account.parse()).transpose()?;
    let before = Before::open(&folder)?;
    let neighbour = Neighbour::start(account.as_ref())?;
    let (readable, writable) = (vec![folder.join("readable")], vec![folder.join("writable")]);
    let state = Confinement { account, readable, writable, connects: false, without_landlock }.apply()?;
    print!("{}", security::text(&state));
    for (name, attempt) in attempts(&folder, &before, neighbour.0) {
        report(name, attempt());
    }
    Ok(())
}

/// What is tried, and how.
type Attempt<'a> = (&'static str, Box<dyn Fn() -> io::Result<()> + 'a>);

/// What is open before privileges are given up, as the exporter's sockets are.
struct Before {
    tcp: TcpListener,
    unix: UnixListener,
    /// The service manager's end, and this process's.
    manager: (UnixDatagram, UnixDatagram),
    /// A datagram socket of somebody else.
    other: UnixDatagram,
    other_path: PathBuf,
    /// Where another program begins.
    entry: Entry,
    /// Connections that wait to be accepted.
    _clients: (TcpStream, UnixStream),
}

impl Before {
    fn open(folder: &Path) -> Result<Self> {
        let path = |name| folder.join("other").join(name);
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let unix = UnixListener::bind(path("stream"))?;
        let clients = (TcpStream::connect(tcp.local_addr()?)?, UnixStream::connect(path("stream"))?);
        let manager = (UnixDatagram::bind(path("manager"))?, UnixDatagram::unbound()?);
        manager.1.connect(path("manager"))?;
        let other_path = path("datagrams");
        let (other, entry) = (UnixDatagram::bind(&other_path)?, Entry::of(Path::new("/bin/true"))?);
        Ok(Self { tcp, unix, manager, other, other_path, entry, _clients: clients })
    }
}

/// A process of the same user without capabilities. It ends with this one.
struct Neighbour(libc::pid_t);

impl Neighbour {
    fn start(account: Option<&Account>) -> Result<Self> {
        // SAFETY: this process has one thread, so that the child can do what it could.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).context("failed to start another process"),
            0 => {
                let begun = account.map_or(Ok(()), Account::become_it);
                let begun = begun.and_then(|()| capabilities::keep(&CapsHashSet::new()));
                // SAFETY: the calls take numbers. The process belongs to its user again, as one does that was started by it.
                let lasts = unsafe {
                    libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
                        && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) == 0
                };
                thread::sleep(Duration::from_secs(if begun.is_ok() && lasts { 60 } else { 0 }));
                std::process::exit(0)
            }
            child => {
                // Until it has changed.
                thread::sleep(Duration::from_millis(200));
                Ok(Self(child))
            }
        }
    }
}

fn attempts<'a>(folder: &'a Path, before: &'a Before, neighbour: libc::pid_t) -> Vec<Attempt<'a>> {
    let mut attempts: Vec<Attempt<'a>> = vec![
        (
            "start a thread",
            Box::new(|| {
                let thread = thread::Builder::new().name("another".to_owned()).spawn(|| ())?;
                thread.join().map_err(|_| io::Error::other("it panicked"))
            }),
        ),
        (
            "wait",
            Box::new(|| {
                thread::sleep(Duration::from_millis(1));
                Ok(())
            }),
        ),
        ("break into another program", Box::new(|| before.entry.break_at())),
        ("start a program", Box::new(|| Command::new("/bin/true").status().map(drop))),
    ];
    attempts.extend(sockets::attempts(before));
    attempts.extend(files::attempts(folder, neighbour));
    for (name, call) in calls::CALLS {
        attempts.push((name, Box::new(move || call(neighbour))));
    }
    attempts
}

/// The error of a system call that returned -1.
fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn report(name: &str, result: io::Result<()>) {
    match result {
        Ok(()) => println!("{name}: done"),
        Err(error) => println!("{name}: {}", error.raw_os_error().map_or(error.to_string(), |code| code.to_string())),
    }
}
