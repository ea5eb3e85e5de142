//! That each way of booting a kernel took effect.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_parts};
use crate::guest::Said;

const fn effect(
    name: &'static str,
    boot: Boot,
    script: &'static str,
    check: fn(&Said, &Context) -> Result<()>,
) -> Case {
    Case { name, kernels: Kernels::All, boot, group: Group::Core, limit_seconds: 20, script, check }
}

const VULNERABILITIES: &str = "cat /proc/cmdline; grep . /sys/devices/system/cpu/vulnerabilities/*\n";

pub const CASES: &[Case] = &[
    effect("depth of calls is counted", Boot::CallDepth, VULNERABILITIES, |said, _| {
        expect_parts(&said.stdout, &["retbleed:Mitigation: Stuffing"])
    }),
    effect("mitigations are off", Boot::NoMitigations, VULNERABILITIES, |said, _| {
        expect_parts(&said.stdout, &["spectre_v2:Vulnerable"])
    }),
    effect("mitigations are on", Boot::AllMitigations, VULNERABILITIES, |said, _| {
        expect_parts(&said.stdout, &["mitigations=auto,nosmt", "spectre_v2:Mitigation"])
    }),
    // The emulated processor cannot track branches: this shows no more than that the tool does not mind the option.
    effect("branches may be tracked", Boot::BranchTracking, VULNERABILITIES, |said, _| {
        expect_parts(&said.stdout, &["ibt=on"])
    }),
    effect("branches are not tracked", Boot::NoBranchTracking, VULNERABILITIES, |said, _| {
        expect_parts(&said.stdout, &["ibt=off"])
    }),
    effect("kernel is where it was linked to", Boot::NoKaslr, "grep ' _text$' /proc/kallsyms\n", |said, _| {
        ensure!(said.stdout.starts_with("ffffffff81000000 "), "it is at {}", said.stdout);
        Ok(())
    }),
];
