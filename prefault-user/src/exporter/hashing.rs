//! Hashes of passwords: one at a time, on a thread of its own, and in an order that no guesser can keep a scraper out by.
//!
//! A hash takes a tenth of a second on purpose. So a few requests a second keep the thread busy, and what matters is who is
//! next: who still waits, before who has hung up; of an address that was not refused lately, before one that was; on a connection
//! that was not refused, before one that was; and of these who came last, since a queue that is always full helps nobody. What
//! waits is bounded, and takes no more than a password of 72 bytes, of which bcrypt looks at no more.
//!
//! So guesses from other addresses, up to [`MOST_PEERS`], cost a scraper one hash's time each once, and guesses on connections
//! that stay open as much, from its own address too. A guesser that shares the scraper's address and makes a new connection
//! for each guess, or has thousands of addresses, can still keep out a scraper that has not been let in since the start.

use std::{
    cmp::Reverse,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bcrypt::HashParts;
use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use super::client::{Client, Peer, have_hung_up};

/// Bytes of a password that bcrypt looks at.
pub const MOST_PASSWORD_BYTES: usize = 72;
/// Passwords that wait to be looked at.
const MOST_WAITING: usize = 32;
/// Addresses of which it is remembered that they were refused; then the one that was longest ago is forgotten.
pub const MOST_PEERS: usize = 1024;
/// How long one may wait to be looked at.
const WAIT_LIMIT: Duration = Duration::from_secs(20);
/// What passwords of users who do not exist are hashed with: it matters to nobody.
const SALT: [u8; 16] = *b"nobody's own one";

/// A password, and what it is to be compared with.
#[derive(Debug)]
pub struct Trial {
    /// As it was given, at most [`MOST_PASSWORD_BYTES`].
    pub password: Vec<u8>,
    /// The user's hash, `None` if there is no such user.
    pub hash: Option<Arc<str>>,
    /// The highest cost of all users.
    pub highest_cost: u32,
}

impl Trial {
    /// Whether it is the password. A wrong one takes as long for each user, and for none: the work of a cost is twice that of the
    /// one below, so what is missing to the highest is all of the costs from the user's own on.
    fn is_right(&self) -> bool {
        let cost = self.hash.as_ref().and_then(|hash| hash.parse::<HashParts>().ok()).map(|parts| parts.get_cost());
        let Some((hash, cost)) = self.hash.as_ref().zip(cost) else {
            self.work(self.highest_cost);
            return false;
        };
        if bcrypt::verify(&self.password, hash).unwrap_or(false) {
            return true;
        }
        (cost..self.highest_cost).for_each(|cost| self.work(cost));
        false
    }

    fn work(&self, cost: u32) {
        let _unused = std::hint::black_box(bcrypt::hash_with_salt(&self.password, cost, SALT));
    }
}

/// What waits to be hashed.
#[derive(Debug, Default)]
pub struct Hashing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Job>,
    n_jobs: u64,
    is_working: bool,
    /// When each address was refused last.
    refused: HashMap<Peer, Instant>,
}

#[derive(Debug)]
struct Job {
    trial: Trial,
    client: Arc<Client>,
    number: u64,
    answer: oneshot::Sender<bool>,
}

impl Hashing {
    /// Whether a password is right; `None` if there are too many to find out.
    pub async fn try_out(self: &Arc<Self>, trial: Trial, client: &Arc<Client>) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.add(trial, client, answer);
        let is_right = timeout(WAIT_LIMIT, answered).await.ok().and_then(Result::ok);
        if is_right != Some(true) {
            client.blame();
        }
        is_right
    }

    fn add(self: &Arc<Self>, trial: Trial, client: &Arc<Client>, answer: oneshot::Sender<bool>) {
        let mut state = self.lock();
        state.n_jobs += 1;
        let number = state.n_jobs;
        state.waiting.push(Job { trial, client: Arc::clone(client), number, answer });
        if state.waiting.len() > MOST_WAITING {
            let last = state.in_order().last().copied();
            // What is taken away here is told that there is no room.
            last.filter(|_| state.waiting.len() > MOST_WAITING).map(|last| state.waiting.swap_remove(last));
        }
        if !state.is_working {
            state.is_working = true;
            let hashing = Arc::clone(self);
            spawn_blocking(move || while hashing.work() {});
        }
    }

    /// Does what is next, if there is something.
    fn work(&self) -> bool {
        let job = {
            let mut state = self.lock();
            let next = state.in_order().first().copied();
            let Some(next) = next else {
                state.is_working = false;
                return false;
            };
            state.waiting.swap_remove(next)
        };
        let is_right = catch_unwind(AssertUnwindSafe(|| job.trial.is_right())).unwrap_or(false);
        self.lock().note(job.client.peer, is_right);
        // The client may have gone.
        let _unused = job.answer.send(is_right);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What waits, by number, in the order in which it is to be done. What nobody waits for any more is forgotten.
    fn in_order(&mut self) -> Vec<usize> {
        self.waiting.retain(|job| !job.answer.is_closed());
        let have_hung_up = have_hung_up(self.waiting.iter().map(|job| &*job.client));
        let rank = |&number: &usize| {
            let Job { client, number: came, .. } = &self.waiting[number];
            (have_hung_up[number], self.refused.get(&client.peer), client.demerits(), Reverse(*came))
        };
        let mut order: Vec<usize> = (0..self.waiting.len()).collect();
        order.sort_by_key(rank);
        order
    }

    fn note(&mut self, peer: Peer, is_right: bool) {
        if is_right {
            self.refused.remove(&peer);
            return;
        }
        self.refused.insert(peer, Instant::now());
        if self.refused.len() > MOST_PEERS
            && let Some(oldest) = self.refused.iter().min_by_key(|(_, when)| **when).map(|(peer, _)| *peer)
        {
            self.refused.remove(&oldest);
        }
    }
}

#[cfg(test)]
impl Hashing {
    /// How many passwords there were to look at so far.
    pub fn n_jobs(&self) -> u64 {
        self.lock().n_jobs
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;

    fn client(address: u8, socket: &TcpStream) -> Arc<Client> {
        Arc::new(Client::new(Peer::V4(Ipv4Addr::new(10, 0, 0, address)), socket.as_raw_fd()))
    }

    fn trial() -> Trial {
        Trial { password: vec![b'x'; 9], hash: None, highest_cost: 4 }
    }

    /// Both ends of a connection.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        (client, listener.accept().expect("accepted").0)
    }

    /// A queue whose thread never comes, and what waits in it.
    struct Queue {
        hashing: Arc<Hashing>,
        answers: Vec<oneshot::Receiver<bool>>,
    }

    impl Queue {
        fn new() -> Self {
            let hashing = Arc::<Hashing>::default();
            hashing.lock().is_working = true;
            Self { hashing, answers: Vec::new() }
        }

        fn add(&mut self, client: &Arc<Client>) {
            let (answer, answered) = oneshot::channel();
            self.hashing.add(trial(), client, answer);
            self.answers.push(answered);
        }

        /// Numbers of the jobs, from 1 on, in their order.
        fn order(&self) -> Vec<u64> {
            let mut state = self.hashing.lock();
            let order = state.in_order();
            order.into_iter().map(|number| state.waiting[number].number).collect()
        }
    }

    #[test]
    fn a_scraper_comes_before_guessers() {
        let (_other_end, open) = pair();
        let (gone, closed) = pair();
        drop(gone);
        let (guesser, scraper) = (client(1, &open), client(2, &open));
        let mut queue = Queue::new();
        queue.hashing.lock().note(guesser.peer, false);
        (0..3).for_each(|_| queue.add(&guesser));
        queue.add(&scraper);
        assert_eq!(queue.order(), [4, 3, 2, 1], "an address that was not refused comes first");
        // From the guesser's own address a connection that was not refused.
        guesser.blame();
        queue.add(&client(1, &open));
        assert_eq!(queue.order(), [4, 5, 3, 2, 1]);
        queue.add(&client(3, &closed));
        assert_eq!(queue.order(), [4, 5, 3, 2, 1, 6], "who has hung up comes last");
        queue.hashing.lock().note(scraper.peer, true);
        assert_eq!(queue.order()[0], 4);
        // What nobody waits for any more is forgotten.
        queue.answers.truncate(2);
        assert_eq!(queue.order(), [2, 1]);
    }

    #[test]
    fn what_waits_is_bounded_and_the_scraper_stays() {
        let (_other_end, open) = pair();
        let mut queue = Queue::new();
        let (guesser, scraper) = (client(1, &open), client(2, &open));
        queue.hashing.lock().note(guesser.peer, false);
        queue.add(&scraper);
        (0..1000).for_each(|_| queue.add(&guesser));
        assert_eq!(queue.order().len(), MOST_WAITING);
        assert_eq!(queue.order()[0], 1);
        let waits =
            |answer: &mut oneshot::Receiver<bool>| answer.try_recv() == Err(oneshot::error::TryRecvError::Empty);
        let n_waiting = queue.answers.iter_mut().map(waits).filter(|waits| *waits).count();
        assert_eq!(n_waiting, MOST_WAITING, "those without room are told");
        for number in 0..2 * MOST_PEERS {
            let peer = Peer::V4(Ipv4Addr::from_bits(number as u32));
            queue.hashing.lock().note(peer, false);
        }
        assert_eq!(queue.hashing.lock().refused.len(), MOST_PEERS);
    }
}
