//! The connections there are, and which of them has to go for another one.
//!
//! Those that have not asked anything yet and those that have are bounded apart: no number of the first kind closes one of the
//! second. In each kind it is the address with the most connections that loses one, so that a flood from one address closes its
//! own. What a flood from the scraper's own address, or from as many addresses as there is room for connections, closes is the
//! oldest that has sent nothing; a scraper sends at once.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::task::AbortHandle;

use super::client::{Client, Peer, Stage, have_hung_up};

/// Connections that have asked something.
const MOST_ASKED: usize = 64;
/// Connections that have not, if descriptors allow. At 1,500 a second that never ask anything, the oldest of these came a third
/// of a second ago: three round trips to a scraper that is 100 ms away.
const MOST_NEW: usize = 512;
/// One in so many of those is closed at once: which, takes looking at all.
const AT_ONCE: usize = 16;
/// Descriptors that are left for everything else, most of all for the probes of modules that come later.
const DESCRIPTORS_LEFT: usize = 256;

/// All connections.
#[derive(Debug)]
pub struct Connections {
    /// Oldest first.
    open: Mutex<Vec<Connection>>,
    /// Requests so far, of all connections.
    n_requests: AtomicU64,
    most_new: usize,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    client: Arc<Client>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { open: Mutex::default(), n_requests: AtomicU64::new(0), most_new: most_new() }
    }
}

impl Connections {
    /// Adds a connection, whose task `begin` starts, and closes another if there are too many now.
    pub fn add(&self, client: &Arc<Client>, begin: impl FnOnce() -> AbortHandle) {
        let mut open = self.lock();
        open.retain(|connection| !connection.task.is_finished());
        let is_new = |connection: &Connection| connection.client.asked() == 0;
        if open.iter().filter(|connection| is_new(connection)).count() >= self.most_new {
            close(&mut open, |clients| most_dispensable_new(clients, (self.most_new / AT_ONCE).max(1)));
        }
        open.push(Connection { task: begin(), client: Arc::clone(client) });
    }

    /// Notes a request of a connection, and closes another if that makes too many that have asked.
    pub fn count_request(&self, client: &Client) {
        let is_first = client.asked() == 0;
        client.ask(self.n_requests.fetch_add(1, Ordering::Relaxed) + 1);
        if is_first {
            let mut open = self.lock();
            open.retain(|connection| !connection.task.is_finished());
            let asked = open.iter().filter(|connection| connection.client.asked() > 0).count();
            if asked > MOST_ASKED {
                close(&mut open, |clients| most_dispensable_asked(clients, client));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        open.iter().for_each(|connection| connection.task.abort());
    }
}

/// Closes the connections that `chosen` says of all clients, oldest first.
fn close(open: &mut Vec<Connection>, chosen: impl FnOnce(&[&Client]) -> Vec<usize>) {
    let clients: Vec<&Client> = open.iter().map(|connection| &*connection.client).collect();
    let mut chosen = chosen(&clients);
    chosen.sort_unstable();
    chosen.into_iter().rev().for_each(|number| open.remove(number).task.abort());
}

/// Which `n` of those that have not asked yet are to be closed, by number. What has sent something is spared while at least half
/// have not.
fn most_dispensable_new(clients: &[&Client], n: usize) -> Vec<usize> {
    let is_silent = |client: &Client| client.stage() == Stage::Silent;
    let new: Vec<usize> = (0..clients.len()).filter(|&number| clients[number].asked() == 0).collect();
    let n_silent = new.iter().filter(|&&number| is_silent(clients[number])).count();
    let spares = 2 * n_silent >= new.len();
    let candidates = new.into_iter().filter(|&number| !spares || is_silent(clients[number]));
    // The oldest of an address has as many behind it as the address has: who has the most goes first, one after the other.
    let mut newer: HashMap<Peer, usize> = HashMap::new();
    let behind = |number: usize| {
        let newer = newer.entry(clients[number].peer).or_default();
        *newer += 1;
        (Reverse(*newer), number)
    };
    let mut ranked: Vec<(Reverse<usize>, usize)> = candidates.rev().map(behind).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(n).map(|(_, number)| number).collect()
}

/// Which of those that have asked is to be closed, but not `newest`: rather one that has hung up, or waits for no answer, then
/// the one that has not asked for the longest time.
fn most_dispensable_asked(clients: &[&Client], newest: &Client) -> Vec<usize> {
    let candidates = of_fullest_peer(clients, |client| client.asked() > 0);
    let have_hung_up = have_hung_up(candidates.iter().map(|&number| clients[number]));
    let others =
        candidates.into_iter().zip(have_hung_up).filter(|(number, _)| clients[*number].asked() != newest.asked());
    let rank = |&(number, has_hung_up): &(usize, bool)| {
        (Reverse(has_hung_up), clients[number].stage() == Stage::Asking, clients[number].asked())
    };
    others.min_by_key(rank).map(|(number, _)| number).into_iter().collect()
}

/// Numbers, in order, of the clients that `is_considered` and are of a peer with the most of these.
fn of_fullest_peer(clients: &[&Client], is_considered: impl Fn(&Client) -> bool) -> Vec<usize> {
    let considered: Vec<usize> = (0..clients.len()).filter(|&number| is_considered(clients[number])).collect();
    let mut counts: HashMap<Peer, usize> = HashMap::new();
    for &number in &considered {
        *counts.entry(clients[number].peer).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    considered.into_iter().filter(|&number| counts[&clients[number].peer] == most).collect()
}

/// How many connections that have not asked anything there may be, as far as descriptors go.
fn most_new() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through the call.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let allowed = if is_known { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) } else { 0 };
    let used = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    allowed.saturating_sub(used + MOST_ASKED + DESCRIPTORS_LEFT).clamp(MOST_ASKED, MOST_NEW)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Clients by the last byte of their address, stage and number of their last request.
    fn clients(clients: &[(u8, Stage, u64)]) -> Vec<Client> {
        let client = |&(address, stage, asked): &(u8, Stage, u64)| {
            let client = Client::new(Peer::V4(Ipv4Addr::new(10, 0, 0, address)), -1);
            client.ask(asked);
            client.reach(stage);
            client
        };
        clients.iter().map(client).collect()
    }

    fn new(of: &[(u8, Stage, u64)]) -> Option<usize> {
        most_dispensable_new(&clients(of).iter().collect::<Vec<_>>(), 1).pop()
    }

    fn asked(of: &[(u8, Stage, u64)], newest: usize) -> Option<usize> {
        let clients = clients(of);
        most_dispensable_asked(&clients.iter().collect::<Vec<_>>(), &clients[newest]).pop()
    }

    #[test]
    fn a_flood_closes_its_own_connections() {
        use Stage::{Answered, Begun, Silent};
        assert_eq!(new(&[(1, Silent, 0), (2, Silent, 0), (2, Silent, 0)]), Some(1));
        assert_eq!(new(&[(1, Begun, 0), (2, Begun, 0), (2, Begun, 0), (3, Answered, 4)]), Some(1));
        assert_eq!(asked(&[(1, Answered, 1), (2, Answered, 2), (2, Answered, 3)], 2), Some(1));
        // From the same address, what has begun to speak is spared, as long as that is not what they all do.
        assert_eq!(new(&[(1, Begun, 0), (1, Silent, 0), (1, Silent, 0)]), Some(1));
        assert_eq!(new(&[(1, Begun, 0), (1, Begun, 0), (1, Silent, 0)]), Some(0));
        // A few at once are those that would go one after the other.
        let few = clients(&[(1, Silent, 0), (2, Silent, 0), (2, Silent, 0), (3, Silent, 0), (2, Silent, 0)]);
        assert_eq!(most_dispensable_new(&few.iter().collect::<Vec<_>>(), 3), [1, 2, 0]);
    }

    #[test]
    fn of_those_that_have_asked_goes_who_waits_for_nothing_and_asked_longest_ago() {
        use Stage::{Answered, Asking, Silent};
        assert_eq!(asked(&[(1, Asking, 1), (1, Answered, 3), (1, Answered, 2), (1, Asking, 4)], 3), Some(2));
        assert_eq!(asked(&[(1, Asking, 2), (1, Asking, 1), (1, Asking, 3)], 2), Some(1));
        assert_eq!(asked(&[(1, Answered, 1), (2, Asking, 2)], 0), Some(1));
        assert_eq!(asked(&[(1, Silent, 0), (1, Asking, 1)], 1), None);
    }
}
