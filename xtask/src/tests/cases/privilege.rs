//! What a process can and cannot do once it has given up its privileges, by a program that gives them up as the tool does and
//! then tries.

use anyhow::{Result, ensure};

use super::{Boot, Case, Context, Group, Kernels, expect_parts};
use crate::tests::{confinement::given_up, guest::Said};

const fn case(name: &'static str, script: &'static str, check: fn(&Said, &Context) -> Result<()>) -> Case {
    Case { name, kernels: Kernels::Spread, boot: Boot::Plain, group: Group::Core, limit_seconds: 60, script, check }
}

// Not in the current directory: 9p makes inodes anew at each look, which landlock's rules do not survive.
pub const CASES: &[Case] = &[
    case(
        "privileges that root gives up",
        "for folder in readable writable other; do mkdir -p /tmp/c/$folder; echo x > /tmp/c/$folder/file; done
sysctl -qw kernel.perf_event_paranoid=3; confined /tmp/c; code=$?
rm -r /tmp/c; exit $code\n",
        |said, context| {
            said.expect_code(0)?;
            expect_parts(&said.stdout, &["user          0, group 0, no further groups\n", "CAP_SYS_ADMIN: "])?;
            given_up(&said.stdout, Some(context.kernel.version))
        },
    ),
    case(
        "privileges that another user keeps",
        "for folder in readable writable other; do mkdir -p /tmp/c/$folder; echo x > /tmp/c/$folder/file; done
chmod -R a+rwX /tmp/c; sysctl -qw kernel.perf_event_paranoid=2; confined /tmp/c 1000:1000; code=$?
sysctl -qw kernel.perf_event_paranoid=3; rm -r /tmp/c; exit $code\n",
        |said, context| {
            said.expect_code(0)?;
            expect_parts(&said.stdout, &["user          1000, group 1000, no further groups\n"])?;
            ensure!(!said.stdout.contains("CAP_SYS_ADMIN"), "keeps CAP_SYS_ADMIN:\n{}", said.stdout);
            given_up(&said.stdout, Some(context.kernel.version))
        },
    ),
];
