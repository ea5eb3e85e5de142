//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! A hash takes a tenth of a second on purpose. It is computed on a thread of its own, one at a time, so that nothing else
//! waits; credentials that were right once are remembered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{sync::Semaphore, task::spawn_blocking};

/// Compared with if there is no such user, so that the answer takes as long: nobody's password.
const NOBODY: &str = "$2b$10$9GuFJbJ1Qac5tkvghxK3leooNuU2nMKeepFbLTuQPNMWs4tP2rYwG";

/// Users that may ask, and those who did.
#[derive(Debug)]
pub struct Auth {
    users: HashMap<String, String>,
    /// Credentials that were right, at most one per user.
    accepted: Mutex<HashMap<String, Vec<u8>>>,
    one_at_a_time: Semaphore,
}

impl Auth {
    /// Users by name, with their bcrypt hashes; `None` if there are none, and everybody may ask.
    pub fn new(users: HashMap<String, String>) -> Option<Arc<Self>> {
        let auth = Self { users, accepted: Mutex::default(), one_at_a_time: Semaphore::new(1) };
        (!auth.users.is_empty()).then(|| Arc::new(auth))
    }

    /// Whether an Authorization header is that of a user.
    pub async fn accepts(&self, header: Option<&[u8]>) -> bool {
        let Some((user, password)) = header.and_then(credentials) else { return false };
        if self.was_accepted(&user, &password) {
            return true;
        }
        // The semaphore is never closed.
        let Ok(_turn) = self.one_at_a_time.acquire().await else { return false };
        let known = self.users.get(&user);
        let hash = known.map_or(NOBODY, |hash| hash).to_owned();
        let given = password.clone();
        let matches = spawn_blocking(move || bcrypt::verify(given, &hash).unwrap_or(false)).await.unwrap_or(false);
        if matches && known.is_some() {
            self.accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(user, password);
            return true;
        }
        false
    }

    fn was_accepted(&self, user: &str, password: &[u8]) -> bool {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(user).is_some_and(|known| is_same(known, password))
    }
}

/// User and password of a header.
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

/// Compares in a time that does not depend on where the two differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(text)).into_bytes()
    }

    #[tokio::test]
    async fn users_are_let_in_by_their_password() {
        let hash = bcrypt::hash("sesame: open", 4).expect("hashed");
        let auth = Auth::new(HashMap::from([("alice".to_owned(), hash)])).expect("there is a user");
        // The second time it is remembered.
        for _ in 0..2 {
            assert!(auth.accepts(Some(&header("alice:sesame: open"))).await);
            for bad in ["alice:sesame", "alice:", "alice", "bob:sesame: open", ":", ""] {
                assert!(!auth.accepts(Some(&header(bad))).await, "{bad}");
            }
        }
        for bad in [&b""[..], b"Basic", b"Basic ", b"Basic !!!!", b"Bearer abc", b"\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(!auth.accepts(Some(bad)).await, "{bad:?}");
        }
        assert!(!auth.accepts(None).await);
        assert!(Auth::new(HashMap::new()).is_none());
    }

    #[test]
    fn the_hash_of_nobody_is_well_formed() {
        assert_eq!(bcrypt::verify("a guess", NOBODY).ok(), Some(false));
    }
}
