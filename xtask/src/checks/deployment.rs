//! What is shipped for production says the same everywhere: the port, the capabilities, and where things are.

use std::fs;

use prefault_lab::paths;

const UNIT: &str = "packaging/systemd/prefault.service";
const DAEMON_SET: &str = "packaging/kubernetes/base/daemonset.yaml";

fn text(file: &str) -> String {
    fs::read_to_string(paths::workspace().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn the_port_is_the_same_everywhere() {
    let address = text("prefault-user/src/cli/address.rs");
    let port = address.split("DEFAULT_PORT: u16 = ").nth(1).and_then(|rest| rest.split(';').next());
    let port = port.expect("the exporter has a default port");
    for file in [
        DAEMON_SET,
        "docs/production.md",
        "packaging/container/Containerfile",
        "packaging/debian/default",
        "packaging/kubernetes/base/service.yaml",
        "packaging/systemd/prefault.socket",
    ] {
        assert!(text(file).contains(port), "{file} does not have the port {port}");
    }
}

#[test]
fn capabilities_are_those_that_are_needed() {
    assert!(text(DAEMON_SET).contains("drop: [ALL]\n              add: [BPF, PERFMON, SYSLOG, SETGID, SETUID]\n"));
    for option in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        let line = format!("\n{option}=CAP_BPF CAP_PERFMON CAP_SYSLOG CAP_SYS_ADMIN\n");
        assert!(text(UNIT).contains(&line), "{option}");
    }
}

#[test]
fn nothing_that_hides_the_kernel_is_in_the_unit() {
    let unit = text(UNIT);
    for option in
        ["ProtectKernelTunables", "ProtectKernelLogs", "PrivateUsers", "ProcSubset", "ProtectProc", "PrivateBPF"]
    {
        assert!(!unit.lines().any(|line| line.starts_with(option)), "{option}");
    }
}
