//! Sockets to answer at: bound, or passed by systemd.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::fs::FileTypeExt as _,
        unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::cli::address::Address;

/// Connections that may wait to be accepted, if sysctl net.core.somaxconn allows. The standard library's 128 are there after a
/// tenth of a second at 1,500 a second, and then the kernel lets everybody wait a second and more; too many would make
/// everybody wait for all of them.
const BACKLOG: i32 = 1024;

/// Of sockets in the filesystem.
const SOCKET_MODE: libc::mode_t = 0o666;

/// A socket that is listened at.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// In the filesystem; removed at the end if it was made here and privileges were kept. Else it is left, and replaced by
    /// the next one: what may remove it could remove other files of its folder.
    Unix(UnixListener, Option<Remove>),
}

/// A path that is removed when this is dropped.
#[derive(Debug)]
pub struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        // Somebody else may have removed it already, or the right to was given up.
        let _unused = fs::remove_file(&self.0);
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(error) => write!(f, "a socket ({error})"),
            },
            Self::Unix(listener, _) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                write!(f, "unix:{}", path.unwrap_or(Path::new("(unnamed)")).display())
            }
        }
    }
}

/// Listens at an address. It has to be called within a tokio runtime.
///
/// # Errors
/// If it is not possible, with a remedy.
pub fn bind(address: &Address) -> Result<Vec<Listener>> {
    match address {
        Address::Ip(address) => Ok(vec![tcp(*address)?]),
        Address::Every(port) => {
            // The IPv6 socket takes IPv4 too; a host without IPv6 has no such address.
            let both = tcp_of_both(*port);
            let listener = match both {
                Err(error) if lacks_address(&error) => tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port))?,
                result => result?,
            };
            Ok(vec![listener])
        }
        Address::Localhost(port) => {
            let first = tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port))?;
            // With port 0 both have to get the same one.
            let port = match &first {
                Listener::Tcp(listener) => listener.local_addr()?.port(),
                Listener::Unix(..) => *port,
            };
            match tcp(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)) {
                Ok(second) => Ok(vec![first, second]),
                Err(error) if lacks_address(&error) => Ok(vec![first]),
                Err(error) => Err(error),
            }
        }
        Address::Unix(path) => unix(path).map(|listener| vec![listener]),
    }
}

fn lacks_address(error: &anyhow::Error) -> bool {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    matches!(code, Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

fn tcp(address: SocketAddr) -> Result<Listener> {
    listen(address, std::net::TcpListener::bind)
}

/// Listens at every address, of IPv4 too, whatever sysctl net.ipv6.bindv6only is.
fn tcp_of_both(port: u16) -> Result<Listener> {
    listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), |address| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(false)?;
        // As the standard library does: connections of an exporter before may linger.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    })
}

fn listen(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<std::net::TcpListener>) -> Result<Listener> {
    let listening = || {
        let listener = bind(address)?;
        SockRef::from(&listener).listen(BACKLOG)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listening()
        .map(Listener::Tcp)
        .with_context(|| format!("failed to listen at {address}; another one is chosen by --listen"))
}

fn unix(path: &Path) -> Result<Listener> {
    let context = || format!("failed to listen at {}", path.display());
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        match StdUnixStream::connect(path) {
            Ok(_) => bail!("failed to listen at {}: another process does", path.display()),
            // Nobody listens any more: it was left behind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).with_context(context)?;
            }
            Err(error) => return Err(error).with_context(context),
        }
    }
    let listener = bind_for_all(path).with_context(context)?;
    Ok(Listener::Unix(listener, Some(Remove(path.to_owned()))))
}

/// Makes a socket with its mode, because to set that later would follow a link that is there by then. Who may ask is decided
/// by the folder, as with TCP it is by the address.
fn bind_for_all(path: &Path) -> io::Result<UnixListener> {
    // SAFETY: the call takes a number. No thread that makes files runs yet.
    let before = unsafe { libc::umask(0o777 & !SOCKET_MODE) };
    let listener = UnixListener::bind(path);
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    listener
}

/// The sockets that systemd passed, if it did. It has to be called within a tokio runtime.
///
/// # Errors
/// If one of them is no socket that can be listened at.
pub fn passed() -> Result<Vec<Listener>> {
    let descriptors = sd_notify::listen_fds().context("failed to take the sockets of systemd (LISTEN_FDS)")?;
    descriptors.map(from_descriptor).collect()
}

fn from_descriptor(descriptor: RawFd) -> Result<Listener> {
    let family = family(descriptor).with_context(|| {
        format!("failed to listen at descriptor {descriptor}, which systemd passed (LISTEN_FDS): it is no socket")
    })?;
    // SAFETY: systemd passed the descriptor to this process, and nothing else in it takes it.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let context = || format!("failed to listen at descriptor {descriptor}, which systemd passed");
    match i32::from(family) {
        libc::AF_UNIX => {
            let listener = StdUnixListener::from(owned);
            listener.set_nonblocking(true).with_context(context)?;
            Ok(Listener::Unix(UnixListener::from_std(listener).with_context(context)?, None))
        }
        libc::AF_INET | libc::AF_INET6 => {
            let listener = std::net::TcpListener::from(owned);
            listener.set_nonblocking(true).with_context(context)?;
            Ok(Listener::Tcp(TcpListener::from_std(listener).with_context(context)?))
        }
        other => bail!("failed to listen at descriptor {descriptor}, which systemd passed: unknown family {other}"),
    }
}

fn family(descriptor: RawFd) -> io::Result<libc::sa_family_t> {
    let mut address = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address and its length live through the call, which writes no more than that length.
    match unsafe { libc::getsockname(descriptor, &raw mut address, &raw mut length) } {
        0 => Ok(address.sa_family),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
        let path = std::env::temp_dir().join(format!("prefault-{}.sock", std::process::id()));
        drop(StdUnixListener::bind(&path).expect("bound"));
        let address = Address::Unix(path.clone());
        // As a service has it.
        // SAFETY: the call takes a number.
        let before = unsafe { libc::umask(0o077) };
        let first = bind(&address).expect("nobody listens");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::umask(before) }, 0o077);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, SOCKET_MODE);
        let refused = bind(&address).expect_err("somebody does").to_string();
        assert!(refused.ends_with("another process does"), "{refused}");
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn sockets_of_systemd_are_told_apart() {
        use std::os::fd::IntoRawFd as _;
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        assert!(matches!(from_descriptor(tcp.into_raw_fd()), Ok(Listener::Tcp(_))));
        let path = std::env::temp_dir().join(format!("prefault-passed-{}.sock", std::process::id()));
        let unix = StdUnixListener::bind(&path).expect("bound");
        let listener = from_descriptor(unix.into_raw_fd()).expect("a socket");
        assert_eq!(listener.to_string(), format!("unix:{}", path.display()));
        drop(listener);
        // It is systemd's to remove.
        fs::remove_file(&path).expect("still there");
        let file = fs::File::open("/dev/null").expect("opened");
        assert!(from_descriptor(file.into_raw_fd()).is_err_and(|error| error.to_string().contains("no socket")));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let refused = format!("{:#}", bind(&Address::Ip(address)).expect_err("in use"));
        assert!(refused.contains(&address.to_string()) && refused.contains("--listen"), "{refused}");
    }
}
