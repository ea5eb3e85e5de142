//! What is tried with sockets: the tool's own, and those by which others are asked to do something.

use std::{
    io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
};

use super::{Attempt, Before, check};

/// Sockets that nobody needs any more: family and type.
const MADE: [(&str, libc::c_int, libc::c_int); 6] = [
    ("ask by a stream", libc::AF_UNIX, libc::SOCK_STREAM),
    ("ask by packets", libc::AF_UNIX, libc::SOCK_SEQPACKET),
    ("ask by datagrams", libc::AF_UNIX, libc::SOCK_DGRAM),
    ("ask the kernel by netlink", libc::AF_NETLINK, libc::SOCK_RAW),
    ("ask the hypervisor", libc::AF_VSOCK, libc::SOCK_STREAM),
    ("use the kernel's ciphers", libc::AF_ALG, libc::SOCK_SEQPACKET),
];

/// Attempts with what was open before, and with new sockets.
pub fn attempts(before: &Before) -> Vec<Attempt<'_>> {
    let mut attempts: Vec<Attempt<'_>> = vec![
        // What has to go on.
        ("accept", Box::new(|| before.tcp.accept().map(drop))),
        ("accept from a unix socket", Box::new(|| before.unix.accept().map(drop))),
        ("tell the service manager", Box::new(|| told(&before.manager))),
        // What is taken.
        (
            "connect",
            Box::new(|| {
                let address = before.tcp.local_addr()?;
                TcpStream::connect(address).map(drop)
            }),
        ),
        ("listen", Box::new(|| TcpListener::bind("127.0.0.1:0").map(drop))),
        ("send by UDP", Box::new(|| UdpSocket::bind("127.0.0.1:0").map(drop))),
        ("make a pair of sockets", Box::new(|| UnixStream::pair().map(drop))),
        ("send to another than the service manager", Box::new(|| elsewhere(before))),
        ("connect its socket to another", Box::new(|| before.manager.1.connect(&before.other_path))),
        ("pass a descriptor on", Box::new(|| message(&before.manager.1, libc::SYS_sendmsg))),
        ("take a descriptor", Box::new(|| message(&before.other, libc::SYS_recvmsg))),
        // By this a superuser without capabilities signals any process.
        ("signal by the owner of a descriptor", Box::new(|| owner(&before.tcp))),
    ];
    for (name, family, kind) in MADE {
        attempts.push((
            name,
            // SAFETY: the call takes numbers. The descriptor, if there is one, is closed when the process ends.
            Box::new(move || check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) }.into())),
        ));
    }
    attempts
}

/// What is sent arrives.
fn told((manager, process): &(UnixDatagram, UnixDatagram)) -> io::Result<()> {
    process.send(b"READY=1")?;
    let mut received = [0; 16];
    let length = manager.recv(&mut received)?;
    if &received[..length] == b"READY=1" { Ok(()) } else { Err(io::Error::other("something else arrived")) }
}

fn elsewhere(before: &Before) -> io::Result<()> {
    let path: &Path = &before.other_path;
    before.manager.1.send_to(b"x", path).map(drop)
}

/// An empty message.
fn message(socket: &UnixDatagram, call: libc::c_long) -> io::Result<()> {
    // SAFETY: all zero is a message without address, data and descriptors.
    let header: libc::msghdr = unsafe { std::mem::zeroed() };
    // SAFETY: the message lives through the call.
    check(unsafe { libc::syscall(call, socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) })
}

fn owner(socket: &TcpListener) -> io::Result<()> {
    // SAFETY: the call takes numbers.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETOWN, 1) }.into())
}
