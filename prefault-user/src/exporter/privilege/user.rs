//! Becoming another user, who keeps capabilities across the change.

use std::{fs, io, ops::RangeInclusive, str::FromStr};

use anyhow::{Context as _, Result, anyhow, bail};

use super::check;
use crate::data::Security;

/// Accounts of the host. A static executable has no other way to look them up.
const ACCOUNTS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// The account that an administrator can make for the exporter.
const OWN_NAME: &str = "prefault";

/// Numbers for hosts without that account. Nobody hands them out: systemd's dynamic users end at 65519
/// (https://systemd.io/UIDS-GIDS/), Debian reserves 65000 to 65533 (policy, 9.2.2), and 65534, `nobody`, is shared by many
/// services. 65532 and 65533 are left out because container images without a distribution use them.
const OWN_NUMBERS: RangeInclusive<u32> = 65520..=65531;

/// A user and the group it has by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

impl FromStr for Account {
    type Err = anyhow::Error;

    /// A name in /etc/passwd, or `UID:GID`.
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((uid, gid)) => numbers(uid, gid).with_context(|| format!("{text} is neither a name nor UID:GID")),
            // It is user 0 by what the kernel does, and a container's root folder may have no accounts.
            None if text == "root" => Ok(Self { uid: 0, gid: 0 }),
            None => {
                let accounts = fs::read_to_string(ACCOUNTS)
                    .with_context(|| format!("failed to read {ACCOUNTS}: give UID:GID instead of a name"))?;
                find(&accounts, text)
                    .ok_or_else(|| anyhow!("{ACCOUNTS} has no user {text}: give one that it has, or UID:GID"))
            }
        }
    }
}

impl Account {
    /// The account `prefault`, or a number that nothing on this host uses: no account, no group, no process that runs.
    ///
    /// # Errors
    /// If each of the numbers is in use.
    pub fn own() -> Result<Self> {
        // A container's root folder may have none of them. In both the third field is a number.
        let accounts = [ACCOUNTS, GROUPS].map(|file| fs::read_to_string(file).unwrap_or_default()).join("\n");
        choose(&accounts, &users_of_processes()).ok_or_else(|| {
            let (first, last) = (OWN_NUMBERS.start(), OWN_NUMBERS.end());
            anyhow!("users {first} to {last} are all in use: make an account with `useradd --system {OWN_NAME}`, or give --user")
        })
    }

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
            check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0))
        }
    }
}

fn numbers(uid: &str, gid: &str) -> Result<Account> {
    Ok(Account { uid: uid.parse()?, gid: gid.parse()? })
}

/// The users of all processes that run and are visible.
fn users_of_processes() -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let names = processes.flatten().map(|entry| entry.path().join("status"));
    // One that has ended meanwhile uses nothing.
    names.filter_map(|status| fs::read_to_string(status).ok()).map(|status| Security::of_status(&status).uid).collect()
}

/// The account of its own name in the text of /etc/passwd, or the first of its numbers that is neither there nor `used`.
fn choose(accounts: &str, used: &[u32]) -> Option<Account> {
    find(accounts, OWN_NAME).filter(|account| account.uid != 0).or_else(|| {
        let is_known = |uid: u32| accounts.lines().any(|line| line.split(':').nth(2) == Some(&uid.to_string()));
        let uid = OWN_NUMBERS.into_iter().find(|uid| !used.contains(uid) && !is_known(*uid))?;
        Some(Account { uid, gid: uid })
    })
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
    fn accounts_are_read_as_numbers() {
        assert_eq!("998:997".parse::<Account>().ok(), Some(Account { uid: 998, gid: 997 }));
        assert_eq!("root".parse::<Account>().ok(), Some(Account { uid: 0, gid: 0 }));
        for text in ["-1:5", "5:", ":", "no such user"] {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
    }

    #[test]
    fn its_own_account_is_never_shared() {
        let chosen = |accounts: &str, used: &[u32]| choose(accounts, used).map(|account| (account.uid, account.gid));
        assert_eq!(chosen(PASSWD, &[0, 1000]), Some((65520, 65520)));
        assert_eq!(chosen(PASSWD, &[0, 65520]), Some((65521, 65521)), "a process has it");
        assert_eq!(chosen("a:x:65520:1::/:/bin/sh\n", &[65521]), Some((65522, 65522)), "an account has it");
        assert_eq!(chosen("prefault:x:998:997::/:/bin/false\n", &[998]), Some((998, 997)));
        assert_eq!(
            chosen("prefault:x:0:0::/:/bin/false\n", &[]),
            Some((65520, 65520)),
            "the superuser by another name"
        );
        assert_eq!(chosen(PASSWD, &OWN_NUMBERS.collect::<Vec<_>>()), None);
        assert!(
            users_of_processes()
                .contains(&Security::of_status(&fs::read_to_string("/proc/self/status").expect("there")).uid)
        );
    }
}
