//! One write, instruction by instruction: which function executed how many. What a change of a probe body may gain is seen
//! here before it is made.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    export::http::free_port,
    paths,
    vm::{Machine, Outcome, Streams, stepper::Stepper},
};

const LIMIT: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The system call whose execution is followed.
const CALL: &str = "__x64_sys_pwrite64";

/// The first write of a process is not like those after it.
const CALLS_BEFORE: usize = 20;

/// Leaves a document of writes of 4 KiB to tmpfs, and then writes more under the tool until the host has followed one. What
/// runs after that does not matter: once in three times a program crashed then, under QEMU 7.2 and 6.12. The kernel makes jumps
/// of kprobes a while after they were placed.
pub const SCRIPT: &str = "set -e
mkdir -p /mnt/tmpfs
mount -t tmpfs tmpfs /mnt/tmpfs
cat > /tmp/body <<'END'
sleep 2
cat /proc/kallsyms > /share/symbols
touch /share/ready
until [ -e /share/seen ]; do pace --batches 1 /mnt/tmpfs; done
END
prefault --json -o counted.json -- sh -c 'sleep 2; pace --batches 5 /mnt/tmpfs' > /dev/null
prefault -o /dev/null -- bash /tmp/body > /dev/null || true
";

/// Symbols of a running kernel by address, those of BPF programs among them.
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads lines of the form `address kind name [module]`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut symbols: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
                let is_text = matches!(kind, "t" | "T" | "w" | "W");
                is_text.then(|| u64::from_str_radix(address, 16).ok())?.map(|address| (address, name.to_owned()))
            })
            .collect();
        symbols.sort();
        Self(symbols)
    }

    /// The address of the symbol `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn address_of(&self, name: &str) -> Result<u64> {
        let found = self.0.iter().find(|(_, other)| other == name);
        Ok(found.with_context(|| format!("there is no symbol {name}"))?.0)
    }

    /// The symbol that `address` is in, and the distance to its begin.
    #[must_use]
    pub fn at(&self, address: u64) -> (&str, u64) {
        let index = self.0.partition_point(|(begin, _)| *begin <= address);
        match index.checked_sub(1).map(|index| &self.0[index]) {
            Some((begin, name)) => (name, address - begin),
            None => ("?", address),
        }
    }
}

/// A call that was followed.
pub struct Profile {
    /// Symbols of its kernel.
    pub symbols: Symbols,
    /// Addresses of the instructions that it executed.
    pub executed: Vec<u64>,
    /// The instructions at these addresses.
    pub code: BTreeMap<u64, String>,
}

impl Profile {
    /// Instructions between the calls of `function` by `caller` and their returns, one number for each call.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn inside(&self, function: &str, caller: &str) -> Result<Vec<usize>> {
        let begin = self.symbols.address_of(function)?;
        let calls = self.executed.iter().enumerate().filter(|(_, at)| **at == begin);
        let instructions = |(index, _)| {
            let rest: &[u64] = &self.executed[index..];
            rest.iter().take_while(|at| self.symbols.at(**at).0 != caller).count()
        };
        Ok(calls.map(instructions).collect())
    }

    /// The instructions in order, a line for each.
    #[must_use]
    pub fn listing(&self) -> String {
        let line = |at: &u64| {
            let (name, distance) = self.symbols.at(*at);
            format!("{name}+{distance:#x} {}\n", self.code[at])
        };
        self.executed.iter().map(line).collect()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for at in &self.executed {
            *counts.entry(self.symbols.at(*at).0).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
        writeln!(f, "{} instructions of one write of 4 KiB to tmpfs", self.executed.len())?;
        counts.iter().try_for_each(|(name, count)| writeln!(f, "{count:>8}  {name}"))
    }
}

/// Prints a profile for each kernel, and leaves the instructions in order below `target/bench`.
///
/// # Errors
/// As [`follow`].
pub fn run(series: &[String]) -> Result<ExitCode> {
    for series in series {
        let (release, profile) = follow(series)?;
        println!("on {release}: {profile}");
        let listing = paths::target("bench").join(format!("{series}-write.txt"));
        paths::write(&listing, profile.listing())?;
        eprintln!("bench: instruction by instruction: {}", listing.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows one write on one kernel, whose release comes with it.
///
/// # Errors
/// When the guest cannot be started or something in it fails.
pub fn follow(series: &str) -> Result<(String, Profile)> {
    let share = paths::target("bench").join(format!("{series}-profile"));
    paths::remove_dir(&share)?;
    paths::create_dir(&share)?;
    paths::write(&share.join("profile.sh"), SCRIPT)?;
    let port = free_port()?;
    let machine = Machine {
        share: Some(share.clone()),
        timeout: LIMIT,
        icount: true,
        debugger: Some(port),
        ..Machine::new(series.parse()?)
    };
    let (finished, followed) = thread::scope(|scope| {
        let followed = scope.spawn(|| follow_from(&share, port));
        let finished = machine.run(&["bash", "/share/profile.sh"].map(str::to_owned), Streams::Captured);
        (finished, followed.join().expect("it does not panic"))
    });
    let finished = finished?;
    let errors = String::from_utf8_lossy(&finished.stderr);
    match finished.outcome {
        Outcome::Exited(0) => Ok((finished.release, followed?)),
        outcome => bail!("the guest did not finish: {outcome:?}\n{errors}"),
    }
}

/// Waits until [`SCRIPT`] writes, and follows one of its writes.
///
/// # Errors
/// When it does not begin, or the processor cannot be followed.
pub fn follow_from(share: &Path, port: u16) -> Result<Profile> {
    let end = Instant::now() + LIMIT;
    while !share.join("ready").exists() {
        ensure!(Instant::now() < end, "the guest did not begin to write");
        thread::sleep(POLL_INTERVAL);
    }
    let symbols = fs::read_to_string(share.join("symbols")).context("failed to read the guest's symbols")?;
    let symbols = Symbols::parse(&symbols);
    let followed = read_call(port, symbols.address_of(CALL)?);
    paths::write(&share.join("seen"), "")?;
    let (executed, code) = followed?;
    Ok(Profile { symbols, executed, code })
}

fn read_call(port: u16, address: u64) -> Result<(Vec<u64>, BTreeMap<u64, String>)> {
    let mut stepper = Stepper::stop(port)?;
    let executed = stepper.follow_call(address, CALLS_BEFORE)?;
    let mut code = BTreeMap::new();
    for at in &executed {
        if !code.contains_key(at) {
            code.insert(*at, stepper.disassemble(*at)?);
        }
    }
    Ok((executed, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_inside_a_call_are_those_until_its_caller_goes_on() {
        let symbols = Symbols::parse("10 T caller\n20 t called\n30 T helper\n40 D data\n");
        assert_eq!(symbols.at(0x45), ("helper", 0x15));
        let executed = vec![0x10, 0x14, 0x20, 0x22, 0x30, 0x31, 0x24, 0x18, 0x20, 0x21, 0x1c];
        let profile = Profile { symbols, executed, code: BTreeMap::new() };
        assert_eq!(profile.inside("called", "caller").expect("it is there"), [5, 2]);
        assert!(profile.inside("data", "caller").is_err());
        assert!(profile.to_string().contains("       5  called\n"), "{profile}");
    }
}
