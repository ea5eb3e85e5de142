//! Becoming an unprivileged user, who keeps capabilities across the change.

use std::{fs, io, str::FromStr};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::check;

/// Accounts of the host. A static executable has no other way to look them up.
const ACCOUNTS: &str = "/etc/passwd";

/// A user and the group it has by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User number, never 0.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

impl FromStr for Account {
    type Err = anyhow::Error;

    /// A name in /etc/passwd, or `UID:GID`.
    fn from_str(text: &str) -> Result<Self> {
        let account = match text.split_once(':') {
            Some((uid, gid)) => numbers(uid, gid).with_context(|| format!("{text} is neither a name nor UID:GID"))?,
            None => {
                let accounts = fs::read_to_string(ACCOUNTS)
                    .with_context(|| format!("failed to read {ACCOUNTS}: give UID:GID instead of a name"))?;
                find(&accounts, text)
                    .ok_or_else(|| anyhow!("{ACCOUNTS} has no user {text}: give one that it has, or UID:GID"))?
            }
        };
        ensure!(account.uid != 0, "{text} is the superuser, who owns the host's files: give another one");
        Ok(account)
    }
}

impl Account {
    /// Becomes this user in all threads, with no other group than its own; permitted capabilities stay, and have to be
    /// made effective again.
    ///
    /// # Errors
    /// If the process may not do so, for want of CAP_SETUID or CAP_SETGID.
    pub fn become_it(&self) -> Result<()> {
        let Self { uid, gid } = *self;
        if let Err(error) = self.change() {
            if error.raw_os_error() == Some(libc::EPERM) {
                bail!(
                    "failed to become user {uid}: CAP_SETUID or CAP_SETGID is missing; start as root, or as that user"
                );
            }
            return Err(error).with_context(|| format!("failed to become user {uid} and group {gid}"));
        }
        Ok(())
    }

    fn change(&self) -> io::Result<()> {
        // SAFETY: all calls take numbers, but setgroups, which reads no element of an empty list.
        unsafe {
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(self.gid, self.gid, self.gid))?;
            check(libc::setresuid(self.uid, self.uid, self.uid))?;
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0))?;
            // The change took the files below /proc/self away, of which before 5.15 fdinfo, with what the kernel knows of
            // programs, was for their owner alone (7bc3fa0172a4 "procfs: allow reading fdinfo with PTRACE_MODE_READ").
            check(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0))
        }
    }
}

fn numbers(uid: &str, gid: &str) -> Result<Account> {
    Ok(Account { uid: uid.parse()?, gid: gid.parse()? })
}

/// The account of that name in the text of /etc/passwd.
fn find(accounts: &str, name: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
        numbers(uid, gid).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533::/nonexistent:/usr/sbin/nologin\nx\n";

    #[test]
    fn accounts_are_found_by_name() {
        assert_eq!(find(PASSWD, "nobody"), Some(Account { uid: 65534, gid: 65533 }));
        for name in ["nob", "x", "", "65534"] {
            assert_eq!(find(PASSWD, name), None, "{name}");
        }
    }

    #[test]
    fn accounts_are_read_as_numbers_and_the_superuser_is_refused() {
        assert_eq!("998:997".parse::<Account>().ok(), Some(Account { uid: 998, gid: 997 }));
        for text in ["0:0", "root", "-1:5", "5:", ":", "no such user"] {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
    }
}
