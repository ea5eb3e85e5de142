//! Gives up privileges as the tool does, then tries what is left and what is not, for the tests. One line for each attempt:
//! its name and `done`, or the error's number.
//!
//! `confined FOLDER [UID:GID]`: FOLDER holds `readable`, `writable` and `other`, each a folder with a file `file`.

use std::{
    env,
    ffi::CStr,
    fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    ptr, thread,
};

use anyhow::{Context as _, Result};
use prefault_user::{output::security, privilege::Confinement};

const TRUE: &CStr = c"/bin/true";
const FOLDER: &CStr = c"/";
const NONE: &CStr = c"none";
const TMPFS: &CStr = c"tmpfs";

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let folder: PathBuf = arguments.next().context("no folder was given")?.into();
    let account = arguments.next().map(|account| account.parse()).transpose()?;
    // Open before, as the exporter's sockets are.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (readable, writable) = (vec![folder.join("readable")], vec![folder.join("writable")]);
    let state = Confinement { account, readable, writable, connects: false }.apply()?;
    print!("{}", security::text(&state));
    for (name, attempt) in attempts(&folder, &listener) {
        report(name, attempt());
    }
    drop(client);
    Ok(())
}

type Attempt<'a> = (&'static str, Box<dyn Fn() -> io::Result<()> + 'a>);

fn attempts<'a>(folder: &'a Path, listener: &'a TcpListener) -> Vec<Attempt<'a>> {
    let file = |below: &str| folder.join(below).join("file");
    let mut attempts: Vec<Attempt<'a>> = Vec::new();
    let mut attempt = |name, attempt: Box<dyn Fn() -> io::Result<()> + 'a>| attempts.push((name, attempt));
    // What has to go on.
    attempt("read symbols", Box::new(|| fs::read("/proc/kallsyms").map(drop)));
    attempt("read own status", Box::new(|| fs::read("/proc/self/fdinfo/0").map(drop)));
    attempt("read mounts of process 1", Box::new(|| fs::read("/proc/1/mountinfo").map(drop)));
    attempt("list modules", Box::new(|| fs::read_dir("/sys/module").map(drop)));
    attempt("accept", Box::new(|| listener.accept().map(drop)));
    attempt(
        "start a thread",
        Box::new(|| {
            let thread = thread::Builder::new().name("another".to_owned()).spawn(|| ())?;
            thread.join().map_err(|_| io::Error::other("it panicked"))
        }),
    );
    attempt("tell the service manager", Box::new(|| UnixDatagram::unbound().map(drop)));
    attempt(
        "wait",
        Box::new(|| {
            thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        }),
    );
    let readable = file("readable");
    attempt("read what is readable", Box::new(move || fs::read(&readable).map(drop)));
    let (partial, whole) = (folder.join("writable/partial"), file("writable"));
    attempt("replace a file", Box::new(move || fs::write(&partial, "x").and_then(|()| fs::rename(&partial, &whole))));
    // What landlock takes.
    let other = file("other");
    attempt("read another file", Box::new(move || fs::read(&other).map(drop)));
    attempt("write into another folder", Box::new(move || fs::write(folder.join("other/new"), "x")));
    attempt("write what is readable", Box::new(move || fs::write(folder.join("readable/file"), "x")));
    // What seccomp takes.
    let port = listener.local_addr().map_or(0, |address| address.port());
    attempt("connect", Box::new(move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)));
    attempt("listen", Box::new(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)));
    attempt("start a program", Box::new(|| Command::new("/bin/true").status().map(drop)));
    for (name, call) in CALLS {
        attempt(name, Box::new(move || call(listener)));
    }
    attempts
}

type Call = fn(&TcpListener) -> io::Result<()>;

/// What takes a raw system call to try.
const CALLS: [(&str, Call); 10] = [
    ("become another program", |_| {
        let arguments = [TRUE.as_ptr(), ptr::null()];
        // SAFETY: both are arrays that end with null and live through the call.
        check(unsafe { libc::execve(TRUE.as_ptr(), arguments.as_ptr(), &raw const arguments[1]) }.into())
    }),
    ("fork", |_| {
        // SAFETY: the child does nothing but end, if there is one.
        match unsafe { libc::syscall(libc::SYS_fork) } {
            // SAFETY: as above.
            0 => unsafe { libc::_exit(0) },
            result => check(result),
        }
    }),
    ("mount", |_| {
        // SAFETY: all pointers are to constants, and no data is passed.
        check(unsafe { libc::mount(NONE.as_ptr(), FOLDER.as_ptr(), TMPFS.as_ptr(), 0, ptr::null()) }.into())
    }),
    // SAFETY: the call takes numbers.
    ("trace process 1", |_| check(unsafe { libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0) })),
    // SAFETY: as above.
    ("signal process 1", |_| check(unsafe { libc::kill(1, 0) }.into())),
    // SAFETY: as above.
    ("become root", |_| check(unsafe { libc::setuid(0) }.into())),
    // SAFETY: as above.
    ("enter a new namespace", |_| check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())),
    // SAFETY: the path is a constant.
    ("change the root", |_| check(unsafe { libc::chroot(FOLDER.as_ptr()) }.into())),
    ("load a module", |_| {
        // SAFETY: no bytes are passed.
        check(unsafe { libc::syscall(libc::SYS_init_module, ptr::null::<u8>(), 0, NONE.as_ptr()) })
    }),
    ("make memory executable", |listener| {
        // SAFETY: a mapping of its own at no given place; the descriptor is not used.
        let mapped = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), 4096, protection, flags, listener.as_raw_fd(), 0)
        };
        check(if mapped == libc::MAP_FAILED { -1 } else { 0 })
    }),
];

fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn report(name: &str, result: io::Result<()>) {
    match result {
        Ok(()) => println!("{name}: done"),
        Err(error) => println!("{name}: {}", error.raw_os_error().map_or(error.to_string(), |code| code.to_string())),
    }
}
