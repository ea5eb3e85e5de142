//! What a process can and cannot do once it has given up its privileges, by a program that gives them up as the tool does and
//! then tries.

use anyhow::{Result, ensure};

use super::{Case, Check, Kernels, expect_parts, expect_refusal, plain, truths};
use crate::tests::{confinement::given_up, guest::Said};

const fn case(name: &'static str, script: &'static str, check: Check) -> Case {
    plain(name, Kernels::Spread, 150, script, check)
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
    case(
        "exporter that gave up its privileges goes on",
        "sysctl -qw kernel.perf_event_paranoid=3; mkdir -p /tmp/textfile; exports_a_module\n",
        |said, _| goes_on(said, "0", &["bpf", "perfmon", "syslog", "sys_admin"]),
    ),
    case(
        "exporter that became another user goes on",
        "sysctl -qw kernel.perf_event_paranoid=2; mkdir -p /tmp/textfile; chown 1000 /tmp/textfile
exports_a_module --user 1000:1000; code=$?; sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
        |said, _| goes_on(said, "1000", &["bpf", "perfmon", "syslog"]),
    ),
    plain(
        "certificate that is renewed after privileges were given up",
        Kernels::Reference,
        150,
        // As certbot does: what is configured are links to files in another folder.
        "mkdir -p /tmp/tls/live /tmp/tls/archive
new() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj \"/CN=$1\" -addext \\
        subjectAltName=IP:127.0.0.1 -keyout /tmp/tls/archive/$1.key -out /tmp/tls/archive/$1.pem 2> openssl.log || return
    chown 1000 /tmp/tls/archive/*; ln -sf ../archive/$1.key /tmp/tls/live/key.pem; ln -sf ../archive/$1.pem /tmp/tls/live/cert.pem
}
served() { openssl s_client -connect 127.0.0.1:29186 < /dev/null 2> /dev/null | openssl x509 -noout -subject; }
printf 'tls_server_config:\\n  cert_file: cert.pem\\n  key_file: key.pem\\n' > /tmp/tls/live/web-config.yml
new first; begin_export -v --web-config /tmp/tls/live/web-config.yml --user 1000:1000; cat /proc/$tool/status > status
served > before; new second
for _ in {1..100}; do served > after; grep -q second after && break; sleep 0.2; done
printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' |
    openssl s_client -quiet -verify_return_error -CAfile /tmp/tls/live/cert.pem -connect 127.0.0.1:29186 > metrics 2> verified
end_export; code=$?; rm -r /tmp/tls; exit $code
",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.file("status")?, &["Uid:\t1000\t1000\t1000\t1000\n", "Seccomp:\t2\n"])?;
            expect_parts(&said.file("export.log")?, &["landlock      reads /proc /sys", "/tmp/tls"])?;
            expect_parts(&said.file("before")?, &["CN=first"])?;
            expect_parts(&said.file("after")?, &["CN=second"])?;
            expect_parts(&said.file("metrics")?, &[" 200 OK", "\nprefault_up 1"])
        },
    ),
    case(
        "what it would give up is shown beside one that runs",
        "begin_export --fstype ext4; prefault export --print-security > shown || exit; end_export\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.file("shown")?, &["capabilities", "landlock", "seccomp"])
        },
    ),
    // Made by a case of the host.
    case(
        "executable that pushes after it gave up its privileges",
        "cat > collector.py << END
import http.server
class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open('pushed', 'ab').write(self.rfile.read(int(self.headers['Content-Length'])))
        open('requests', 'a').write(self.path + ' ' + self.headers['Content-Type'] + chr(10))
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(('127.0.0.1', 4318), Collector)
open('listening', 'w').close()
server.serve_forever()
END
python3 collector.py & collector=$!; wait_for_file listening
sysctl -qw kernel.perf_event_paranoid=2
prefault-otlp export --otlp http://localhost:4318 --otlp-interval 1 --user 1000:1000 2> log & tool=$!
for _ in {1..600}; do grep -qs 'measuring at' log && break; sleep 0.1; done
cat /proc/$tool/status > status; workload resident /mnt/ext4 > truth
wait_for_file requests; rm requests; wait_for_file requests; sleep 2
for word in prefault_writes ext4 generic_perform_write; do
    grep --text --only-matching $word pushed | sort --unique >> found
done
kill -TERM $tool; wait $tool; code=$?; kill $collector; sysctl -qw kernel.perf_event_paranoid=3; exit $code
",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.file("status")?, &["Uid:\t1000\t", "CapEff:\t000000c400000000\n", "Seccomp:\t2\n"])?;
            let requests = said.file("requests")?;
            ensure!(requests.lines().all(|line| line == "/v1/metrics application/x-protobuf"), "{requests}");
            let found = said.file("found")?;
            ensure!(found == "prefault_writes\next4\ngeneric_perform_write\n", "of what was pushed: {found}");
            let log = said.file("log")?;
            ensure!(log.lines().count() == 1, "expected one line of greeting, got\n{log}");
            Ok(())
        },
    ),
    // As in a container made of nothing but the executable.
    case(
        "exporter alone in a root of its own",
        "sysctl -qw kernel.perf_event_paranoid=2; mkdir -p /tmp/root/proc /tmp/root/sys; cp /opt/prefault/prefault /tmp/root
mount --rbind /proc /tmp/root/proc; mount --rbind -o ro /sys /tmp/root/sys
caps=-all,+bpf,+perfmon,+syslog,+sys_chroot
setpriv --inh-caps=$caps --bounding-set=$caps chroot /tmp/root /prefault export --print-security; code=$?
mount --make-rprivate /tmp/root/proc; mount --make-rprivate /tmp/root/sys
umount --recursive /tmp/root/proc; umount --recursive /tmp/root/sys; rmdir /tmp/root/proc /tmp/root/sys && rm -r /tmp/root
sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.stdout, &["CAP_BPF: ", "CAP_PERFMON: ", "CAP_SYSLOG: ", " system calls are left"])?;
            ensure!(!said.stdout.contains("CAP_SYS_ADMIN"), "keeps CAP_SYS_ADMIN:\n{}", said.stdout);
            Ok(())
        },
    ),
    case(
        "exporter that is told to gives up nothing",
        "prefault export --keep-privileges --print-security\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(
                &said.stdout,
                &["nothing was given up", "no_new_privs  no", "landlock      no", "seccomp       no"],
            )
        },
    ),
    case("exporter as a user that does not exist", "prefault export --user nobody-at-all\n", |said, _| {
        expect_refusal(said, &["/etc/passwd", "nobody-at-all", "UID:GID"])
    }),
];

/// Numbers of capabilities.
fn mask(names: &[&str]) -> u64 {
    let number = |name: &str| match name {
        "sys_admin" => 21,
        "syslog" => 34,
        "perfmon" => 38,
        "bpf" => 39,
        _ => panic!("{name} has no number here"),
    };
    names.iter().map(|name| 1 << number(name)).sum()
}

/// The state that the kernel shows, and that a module which came later was measured and exported both ways.
fn goes_on(said: &Said, user: &str, capabilities: &[&str]) -> Result<()> {
    said.expect_code(0)?;
    let status = said.file("status")?;
    let set = format!("{:016x}", mask(capabilities));
    let expected = [
        format!("Uid:\t{user}\t{user}\t{user}\t{user}\n"),
        format!("CapEff:\t{set}\n"),
        format!("CapPrm:\t{set}\n"),
        "CapBnd:\t0000000000000000\n".to_owned(),
        "CapAmb:\t0000000000000000\n".to_owned(),
        "NoNewPrivs:\t1\n".to_owned(),
        "Seccomp:\t2\n".to_owned(),
    ];
    expect_parts(&status, &expected.each_ref().map(String::as_str))?;
    ensure!(!said.file("probes")?.is_empty(), "nothing in the module was probed");
    ensure!(said.file("left")?.is_empty(), "still attached: {}", said.file("left")?);
    ensure!(said.file("mode")?.trim_end() == "644", "the textfile's mode is {}", said.file("mode")?);
    let truths = truths(said)?;
    let writes: u64 = truths.iter().map(|truth| truth.writes).sum();
    for file in ["metrics", "textfile"] {
        let metrics = said.file(file)?;
        let counted = metrics.lines().find(|line| line.starts_with("prefault_writes_total{") && line.contains("f2fs"));
        let counted: Option<f64> = counted.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        ensure!(writes > 0 && counted == Some(writes as f64), "{file}: {counted:?} writes, expected {writes}");
    }
    let complaints = said.file("export.log")?.lines().filter(|line| line.starts_with("prefault: ")).count();
    ensure!(complaints == 1, "expected one line of greeting, got\n{}", said.file("export.log")?);
    Ok(())
}
