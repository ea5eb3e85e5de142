//! `cargo xtask demo`: what the tool shows, on a stock kernel with four filesystems and writes from resident and from
//! non-resident buffers.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};

use crate::{
    matrix::{
        filesystems::{self, Group},
        kernels::{self, REFERENCE},
    },
    paths,
    vm::{Machine, Outcome, Streams},
};

const LIMIT: Duration = Duration::from_secs(180);

const SCRIPT: &str = r#"
echo '$ prefault doctor --dry-run'
prefault doctor --dry-run > /run/doctor || exit
grep -E '^(kernel|verdict)' /run/doctor
echo "$(grep -cE '^ +(prefault|copy) +[^ ]*\+0x' /run/doctor) calls of prefault and copy found in the running kernel and its modules"
echo
echo '$ prefault -- sh -c "workload resident $DIRECTORIES; workload absent $DIRECTORIES"'
# What the workload says goes to a filesystem without buffered writes, which would be counted too.
prefault -- sh -c "{ workload resident $DIRECTORIES; workload absent $DIRECTORIES; } > /share/truth" || exit
echo
echo 'What the workload itself says it did:'
cat /share/truth
"#;

/// Boots, and shows it.
///
/// # Errors
/// When the guest cannot be started.
pub fn run() -> Result<ExitCode> {
    let share = paths::target("demo");
    paths::create_dir(&share)?;
    paths::write(&share.join("demo.sh"), script()?)?;
    let machine = Machine { share: Some(share), timeout: LIMIT, ..Machine::new(REFERENCE.parse()?) };
    eprintln!("demo: booting kernel {REFERENCE} in software emulation");
    let finished = machine.run(&["bash", "/share/demo.sh"].map(str::to_owned), Streams::Through)?;
    match finished.outcome {
        Outcome::Exited(code) => Ok(ExitCode::from(code)),
        outcome => bail!("the guest did not finish: {outcome:?} (console: {})", finished.console.display()),
    }
}

fn script() -> Result<String> {
    let version = kernels::Facts::of(REFERENCE)?.version;
    let shown = || filesystems::of(Group::Core, version);
    let set_up: String = shown().map(|filesystem| filesystem.script(version)).collect();
    let directories: Vec<String> = shown().map(filesystems::Filesystem::directory).collect();
    Ok(format!("modprobe btrfs\nset -e\n{set_up}set +e\nDIRECTORIES={:?}\n{SCRIPT}", directories.join(" ")))
}
