//! Who is at the other end of a connection: by what it shares limits with others, and how it has behaved.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::RawFd,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

/// What shares of a limit go by: an address that one host has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first half of an IPv6 address: one host may have all of the other half (RFC 4291, 2.5.1).
    V6([u8; 8]),
    /// The user of a process on this host that came by a unix socket.
    User(u32),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Nothing has come of it.
    Silent = 0,
    /// Something has come, and no whole request yet.
    Begun = 1,
    /// It has asked, and has its answer.
    Answered = 2,
    /// It has asked and waits.
    Asking = 3,
}

/// A connection as those see it who decide between connections.
#[derive(Debug)]
pub struct Client {
    /// Where it comes from.
    pub peer: Peer,
    /// Its socket, which only [`have_hung_up`] looks at: the number may stand for another one when the connection is gone.
    pub socket: RawFd,
    stage: AtomicU8,
    /// Number of its last request among all, 0 if there was none.
    asked: AtomicU64,
    demerits: AtomicU32,
}

impl Client {
    /// A connection that has just come.
    pub fn new(peer: Peer, socket: RawFd) -> Self {
        let (stage, asked, demerits) = (AtomicU8::new(Stage::Silent as u8), AtomicU64::new(0), AtomicU32::new(0));
        Self { peer, socket, stage, asked, demerits }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Silent,
            1 => Stage::Begun,
            2 => Stage::Answered,
            _ => Stage::Asking,
        }
    }

    /// Notes how far it has come.
    pub fn reach(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Number of its last request among all, 0 if there was none.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes a request, the `number`th of all.
    pub fn ask(&self, number: u64) {
        self.asked.store(number, Ordering::Relaxed);
        self.reach(Stage::Asking);
    }

    /// How often it has given a wrong password, or found no room to have one looked at.
    pub fn demerits(&self) -> u32 {
        self.demerits.load(Ordering::Relaxed)
    }

    /// Notes one such time.
    pub fn blame(&self) {
        self.demerits.fetch_add(1, Ordering::Relaxed);
    }
}

/// Which of these have closed their side. That is a hint: they may still want their answer.
pub fn have_hung_up<'a>(clients: impl Iterator<Item = &'a Client>) -> Vec<bool> {
    let poll = |client: &Client| libc::pollfd { fd: client.socket, events: libc::POLLRDHUP, revents: 0 };
    let mut polls: Vec<libc::pollfd> = clients.map(poll).collect();
    // SAFETY: the array lives through the call, which does not wait, and a descriptor that is not open is only said to be none.
    let found = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, 0) };
    let gone = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    polls.iter().map(|poll| found > 0 && poll.revents & gone != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_one_peer() {
        let peer = |text: &str| Peer::from(text.parse::<SocketAddr>().expect("an address"));
        assert_eq!(peer("10.1.2.3:4"), peer("10.1.2.3:5"));
        assert_eq!(peer("10.1.2.3:4"), peer("[::ffff:10.1.2.3]:4"));
        assert_ne!(peer("10.1.2.3:4"), peer("10.1.2.4:4"));
        assert_eq!(peer("[2001:db8:1:2::3]:4"), peer("[2001:db8:1:2:ffff::9]:4"));
        assert_ne!(peer("[2001:db8:1:2::3]:4"), peer("[2001:db8:1:3::3]:4"));
    }
}
