//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! Credentials that were right once are remembered, by a digest, for as long as the user has that hash: also when the web
//! config is read again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, anyhow};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{hmac, rand::SystemRandom};
use subtle::ConstantTimeEq as _;

use super::{
    client::Client,
    hashing::{Hashing, MOST_PASSWORD_BYTES, Trial},
};

/// What is said of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are a user's.
    Accepted,
    /// They are nobody's.
    Refused,
    /// Too many have to be looked at.
    Busy,
}

/// What outlives a web config: hashes under way, and credentials that were right.
#[derive(Debug)]
pub struct Logins {
    hashing: Arc<Hashing>,
    key: hmac::Key,
    /// By user.
    accepted: Mutex<HashMap<String, hmac::Tag>>,
}

impl Logins {
    /// Nobody has been let in yet.
    ///
    /// # Errors
    /// If the kernel has no random numbers.
    pub fn new() -> Result<Arc<Self>> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| anyhow!("failed to get random numbers from the kernel"))?;
        Ok(Arc::new(Self { hashing: Arc::default(), key, accepted: Mutex::default() }))
    }

    /// What stands for credentials that were right with this hash.
    fn tag(&self, user: &str, password: &[u8], hash: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        context.sign()
    }
}

/// Users that may ask.
#[derive(Debug)]
pub struct Auth {
    users: HashMap<String, Arc<str>>,
    highest_cost: u32,
    logins: Arc<Logins>,
}

impl Auth {
    /// Users by name, with their bcrypt hashes; `None` if there are none, and everybody may ask.
    pub fn new(users: HashMap<String, String>, logins: &Arc<Logins>) -> Option<Arc<Self>> {
        let costs = users.values().filter_map(|hash| hash.parse::<bcrypt::HashParts>().ok());
        let highest_cost = costs.map(|parts| parts.get_cost()).max().unwrap_or(bcrypt::DEFAULT_COST);
        let mut accepted = logins.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.retain(|user, _| users.contains_key(user));
        let users: HashMap<_, _> = users.into_iter().map(|(user, hash)| (user, hash.into())).collect();
        (!users.is_empty()).then(|| Arc::new(Self { users, highest_cost, logins: Arc::clone(logins) }))
    }

    /// Whether the Authorization header of this client's request is that of a user.
    pub async fn judge(&self, header: Option<&[u8]>, client: &Arc<Client>) -> Verdict {
        let Some((user, password)) = header.and_then(credentials) else { return Verdict::Refused };
        let hash = self.users.get(&user).cloned();
        // Of who does not exist too, so that this takes as long.
        let tag = self.logins.tag(&user, &password, hash.as_deref().unwrap_or_default());
        if hash.is_some() && self.was_accepted(&user, &tag) {
            return Verdict::Accepted;
        }
        let trial = Trial { password, hash, highest_cost: self.highest_cost };
        match self.logins.hashing.try_out(trial, client).await {
            None => Verdict::Busy,
            Some(false) => Verdict::Refused,
            Some(true) => {
                self.logins.accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(user, tag);
                Verdict::Accepted
            }
        }
    }

    fn was_accepted(&self, user: &str, tag: &hmac::Tag) -> bool {
        let accepted = self.logins.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(user).is_some_and(|known| known.as_ref().ct_eq(tag.as_ref()).into())
    }
}

/// User and password of a header, and of the password what is looked at.
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    let password = &decoded[colon + 1..];
    Some((user, password[..password.len().min(MOST_PASSWORD_BYTES)].to_vec()))
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        time::{Duration, Instant},
    };

    use crate::exporter::{auth::*, client::Peer};
    use crate::fuzz::source::changed;

    fn header(text: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(text)).into_bytes()
    }

    fn auth(logins: &Arc<Logins>, users: &[(&str, &str, u32)]) -> Arc<Auth> {
        let hash = |(user, password, cost): &(&str, &str, u32)| {
            ((*user).to_owned(), bcrypt::hash(password, *cost).expect("hashed"))
        };
        Auth::new(users.iter().map(hash).collect(), logins).expect("there is a user")
    }

    fn client() -> Arc<Client> {
        Arc::new(Client::new(Peer::V4(Ipv4Addr::LOCALHOST), -1))
    }

    #[tokio::test]
    async fn users_are_let_in_by_their_password() {
        let auth = auth(&Logins::new().expect("made"), &[("alice", "sesame: open", 4)]);
        let judge = async |header: &[u8]| auth.judge(Some(header), &client()).await;
        // The second time it is remembered.
        for _ in 0..2 {
            assert_eq!(judge(&header("alice:sesame: open")).await, Verdict::Accepted);
            for bad in ["alice:sesame", "alice:", "alice", "bob:sesame: open", ":", ""] {
                assert_eq!(judge(&header(bad)).await, Verdict::Refused, "{bad}");
            }
        }
        for bad in [&b""[..], b"Basic", b"Basic ", b"Basic !!!!", b"Bearer abc", b"\xff\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(judge(bad).await, Verdict::Refused, "{bad:?}");
        }
        assert_eq!(auth.judge(None, &client()).await, Verdict::Refused);
        assert!(Auth::new(HashMap::new(), &Logins::new().expect("made")).is_none());
    }

    #[tokio::test]
    async fn who_was_let_in_is_not_hashed_again_until_the_hash_is_another() {
        let logins = Logins::new().expect("made");
        let (hash, other) = (bcrypt::hash("secret", 4).expect("hashed"), bcrypt::hash("secret", 4).expect("hashed"));
        let read = |hash: &str| {
            let users = HashMap::from([("alice".to_owned(), hash.to_owned())]);
            Auth::new(users, &logins).expect("there is a user")
        };
        for (config, n_jobs) in [(&hash, 1), (&hash, 1), (&other, 2), (&other, 2)] {
            let auth = read(config);
            assert_eq!(auth.judge(Some(&header("alice:secret")), &client()).await, Verdict::Accepted);
            assert_eq!(logins.hashing.n_jobs(), n_jobs);
        }
        // Who is no user any more has to come in anew.
        drop(Auth::new(HashMap::new(), &logins));
        assert_eq!(read(&other).judge(Some(&header("alice:secret")), &client()).await, Verdict::Accepted);
        assert_eq!(logins.hashing.n_jobs(), 3);
    }

    #[tokio::test]
    async fn passwords_are_cut_to_what_is_looked_at() {
        let long = "x".repeat(6000);
        let (_, password) = credentials(&header(&format!("alice:{long}"))).expect("credentials");
        assert_eq!((password.len(), password.capacity()), (72, 72));
        let auth = auth(&Logins::new().expect("made"), &[("alice", &long[..72], 4)]);
        let verdict = auth.judge(Some(&header(&format!("alice:{long}"))), &client()).await;
        assert_eq!(verdict, Verdict::Accepted);
    }

    /// The shortest times that each of these takes, by turns, until they are alike or many were taken: other processes make some
    /// longer.
    async fn shortest(auth: &Auth, all: &[&str]) -> Vec<Duration> {
        let mut shortest = vec![Duration::MAX; all.len()];
        for round in 0..100 {
            if round >= 7 && are_alike(&shortest) {
                break;
            }
            for (credentials, shortest) in all.iter().zip(&mut shortest) {
                let begun = Instant::now();
                assert_eq!(auth.judge(Some(&header(credentials)), &client()).await, Verdict::Refused);
                *shortest = begun.elapsed().min(*shortest);
            }
        }
        shortest
    }

    /// Each step of cost is a factor of 2, and there are four between the two users.
    fn are_alike(times: &[Duration]) -> bool {
        let (least, most) = (times.iter().min().expect("times"), times.iter().max().expect("times"));
        *most < least.mul_f64(1.7)
    }

    #[tokio::test]
    async fn users_cannot_be_told_by_the_time_of_the_answer() {
        let auth = auth(&Logins::new().expect("made"), &[("cheap", "a", 5), ("dear", "b", 9)]);
        for is_remembered in [false, true] {
            if is_remembered {
                for right in ["cheap:a", "dear:b"] {
                    assert_eq!(auth.judge(Some(&header(right)), &client()).await, Verdict::Accepted);
                }
            }
            let times = shortest(&auth, &["cheap:x", "dear:x", "nobody:x"]).await;
            assert!(are_alike(&times), "remembered: {is_remembered}: {times:?}");
            let least = times.iter().min().expect("times");
            assert!(*least > Duration::from_millis(2), "nothing was hashed: {times:?}");
        }
    }

    #[test]
    fn what_a_header_says_is_what_was_put_into_it() {
        bolero::check!().for_each(|input: &[u8]| {
            let (user, password) = input.split_at(input.len().min(5));
            let user = String::from_utf8_lossy(user).replace(':', "");
            let encoded = STANDARD.encode([user.as_bytes(), b":", password].concat());
            let (said, cut) = credentials(format!("Basic {encoded}").as_bytes()).expect("well formed");
            assert_eq!((said, &cut[..]), (user, &password[..password.len().min(MOST_PASSWORD_BYTES)]));
            // Whatever else a client sends, there is an answer.
            if let Some((_, password)) = credentials(&changed(b"Basic YWxpY2U6c2VzYW1l", input)) {
                assert!(password.len() <= MOST_PASSWORD_BYTES);
            }
        });
    }
}
