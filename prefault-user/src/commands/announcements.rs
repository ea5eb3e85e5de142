//! The kernel's announcements that modules come or go: nobody has to look for them all the time.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use tokio::io::unix::AsyncFd;

/// The group of the kernel itself, of those of NETLINK_KOBJECT_UEVENT.
const KERNEL: u32 = 1;

/// Longer than the kernel makes any (UEVENT_BUFFER_SIZE in include/linux/kobject.h); the first words are all that counts.
const LONGEST: usize = 4096;

/// A socket that the kernel's announcements come to.
pub struct Announcements(AsyncFd<OwnedFd>);

impl Announcements {
    /// Begins to listen. It has to be called within a tokio runtime.
    ///
    /// # Errors
    /// If this process may have no such socket.
    pub fn listen() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call takes numbers.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // SAFETY: the structure is made of numbers.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = KERNEL;
        // SAFETY: the address lives through the call and has the size that is passed.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor stays the same and open for as long as its owner lives.
        Ok(Self(unsafe { AsyncFd::register(socket) }?))
    }

    /// Waits until a module is announced to have come or to go. The future may be dropped at any time.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn of_module(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

/// Receives one announcement; the result is whether it is, or may have been, that of a module.
fn receive(socket: &OwnedFd) -> io::Result<bool> {
    let mut text = [0_u8; LONGEST];
    // SAFETY: the buffer lives through the call and has the size that is passed.
    let n_bytes = unsafe { libc::recv(socket.as_raw_fd(), text.as_mut_ptr().cast(), text.len(), 0) };
    if n_bytes >= 0 {
        return Ok(is_of_module(&text[..n_bytes as usize]));
    }
    let error = io::Error::last_os_error();
    // There were more than the socket had room for.
    if error.raw_os_error() == Some(libc::ENOBUFS) { Ok(true) } else { Err(error) }
}

/// An announcement begins with what has happened, and the path below /sys that it has happened to.
fn is_of_module(text: &[u8]) -> bool {
    ["add@/module/", "remove@/module/"].iter().any(|begin| text.starts_with(begin.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_of_modules_are_told_from_others() {
        assert!(is_of_module(b"add@/module/xfs\0ACTION=add\0DEVPATH=/module/xfs\0SUBSYSTEM=module\0"));
        assert!(is_of_module(b"remove@/module/xfs\0ACTION=remove\0"));
        assert!(!is_of_module(b"add@/devices/virtual/bdi/0:40\0ACTION=add\0"));
        assert!(!is_of_module(b"change@/module/xfs\0ACTION=change\0"));
        assert!(!is_of_module(b""));
    }
}
