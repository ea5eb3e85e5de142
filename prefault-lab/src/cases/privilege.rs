//! What a process can and cannot do once it has given up its privileges, by a program that gives them up as the tool does and
//! then tries.

use anyhow::{Result, ensure};

use super::{Case, Check, Kernels, expect_parts, expect_refusal, plain, truths};
use crate::{
    confinement::{LANDLOCK, given_up},
    guest::Said,
};

const fn case(name: &'static str, script: &'static str, check: Check) -> Case {
    plain(name, Kernels::Spread, 150, script, check)
}

pub const CASES: &[Case] = &[
    case(
        "privileges that root gives up",
        "sysctl -qw kernel.perf_event_paranoid=3; attack_as 0\n",
        |said, context| {
            said.expect_code(0)?;
            let root = ["user          0, group 0, no further groups\n", "CAP_SYS_ADMIN: ", "and so become root"];
            expect_parts(&said.stdout, &root)?;
            given_up(&said.stdout, Some(context.kernel.version))
        },
    ),
    case(
        "privileges that another user keeps",
        "sysctl -qw kernel.perf_event_paranoid=2; attack_as 1000; code=$?
sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
        |said, context| {
            another_user(said)?;
            given_up(&said.stdout, Some(context.kernel.version))
        },
    ),
    case(
        "privileges that root gives up without landlock",
        "sysctl -qw kernel.perf_event_paranoid=2; attack_as 0 --without-landlock; code=$?
sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            expect_parts(&said.stdout, &["user          0, ", "each file of root's", "landlock      not in this kernel"])?;
            given_up(&said.stdout, None)
        },
    ),
    case(
        "privileges that another user keeps without landlock",
        "sysctl -qw kernel.perf_event_paranoid=2; attack_as 1000 --without-landlock; code=$?
sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
        |said, _| {
            another_user(said)?;
            expect_parts(&said.stdout, &["landlock      not in this kernel", "every file that user 1000 may read\n"])?;
            given_up(&said.stdout, None)
        },
    ),
    case(
        "exporter that gave up its privileges goes on",
        "sysctl -qw kernel.perf_event_paranoid=3; mkdir -p /tmp/textfile; exports_a_module --user root\n",
        |said, context| {
            // Without landlock it says that it can write root's files.
            let n_lines = if LANDLOCK.contains(context.kernel.version) { 1 } else { 2 };
            goes_on(said, "0", &["bpf", "perfmon", "syslog", "sys_admin"], n_lines)
        },
    ),
    case(
        "exporter that became another user goes on",
        "sysctl -qw kernel.perf_event_paranoid=2; mkdir -p /tmp/textfile; chown 1000 /tmp/textfile
exports_a_module --user 1000:1000; code=$?; sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
        |said, _| goes_on(said, "1000", &["bpf", "perfmon", "syslog"], 1),
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
    case(
        "exporter of the superuser becomes a user of its own",
        "sysctl -qw kernel.perf_event_paranoid=2; rm -f /run/prefault.sock
begin_export --listen 127.0.0.1:29186 --listen unix:/run/prefault.sock; cp export.log first; first=$tool
cat /proc/$first/status > status; stat --format='%F %a' /run/prefault.sock > socket
begin_export --listen 127.0.0.1:29187; cp export.log second; end_export || exit
echo prefault:x:998:997::/:/usr/sbin/nologin >> /etc/passwd
begin_export --listen 127.0.0.1:29187; cp export.log named; end_export || exit; sed -i '/^prefault:/d' /etc/passwd
workload resident /mnt/ext4 > truth; scrape > metrics; tool=$first; end_export || exit
stat --format=%F /run/prefault.sock >> socket; begin_export --listen unix:/run/prefault.sock; end_export; code=$?
rm /run/prefault.sock; sysctl -qw kernel.perf_event_paranoid=3; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            for (file, user) in [("first", 65520), ("second", 65521), ("named", 998)] {
                let log = said.file(file)?;
                ensure!(log.contains(&format!(" as user {user}; ")) && log.lines().count() == 1, "{file}: {log}");
            }
            let ids = ["Uid", "Gid"].map(|id| format!("{id}:\t65520\t65520\t65520\t65520\n"));
            expect_parts(&said.file("status")?, &[&ids[0], &ids[1], "Groups:\t \n", "CapPrm:\t000000c400000000\n"])?;
            // It is left, and replaced by the next exporter: nothing in its folder can be removed.
            ensure!(said.file("socket")? == "socket 666\nsocket\n", "the socket: {}", said.file("socket")?);
            let writes: u64 = truths(said)?.iter().map(|truth| truth.writes).sum();
            let counted = super::export::sum(&said.file("metrics")?, "prefault_writes_total", "ext4");
            ensure!(writes > 0 && counted == writes, "{counted} writes were counted, expected {writes}");
            Ok(())
        },
    ),
    case(
        "exporter that could not go on as another user does not start",
        "refused() {
    prefault export --listen 127.0.0.1:29186 \"$@\" 2> said; echo \"$? $(wc -l < said) $(cat said)\" >> refusals
}
mkdir -p /tmp/own/below /tmp/textfile; (umask 077; echo 'basic_auth_users: {}' > /tmp/own/web.yml)
refused --web-config /tmp/own/web.yml; refused --textfile /tmp/textfile/prefault.prom
refused --textfile /tmp/own/prefault.prom; tests=$PWD; cd / || exit; refused() {
    prefault export --textfile prefault.prom 2> $tests/said; echo \"$? $(wc -l < $tests/said) $(cat $tests/said)\" >> $tests/refusals
}; refused; rm -r /tmp/own /tmp/textfile; cat $tests/refusals\n",
        |said, _| {
            said.expect_code(0)?;
            let lines: Vec<&str> = said.stdout.lines().collect();
            let expected: [&[&str]; 4] = [
                &["/tmp/own/web.yml", "as user 65520", "chgrp", "--user root"],
                &["/tmp/textfile", "as user 65520", "chown", "--user root"],
                &["/tmp/own/prefault.prom", "further folders", "--keep-privileges"],
                &["--textfile prefault.prom", "further folders"],
            ];
            ensure!(lines.len() == expected.len(), "expected a line for each, got\n{}", said.stdout);
            for (line, parts) in lines.into_iter().zip(expected) {
                ensure!(line.starts_with("2 1 prefault: "), "expected exit code 2 and one line, got {line}");
                expect_parts(line, parts)?;
            }
            Ok(())
        },
    ),
    plain(
        "web config beside folders of others",
        Kernels::Reference,
        150,
        // What it is about to read is another file where one replaced it.
        "mkdir -p /tmp/shared/others; echo secret > /tmp/shared/others/file; echo 'basic_auth_users: {}' > /tmp/shared/web.yml
begin_export -v --listen 127.0.0.1:29186 --web-config /tmp/shared/web.yml; sleep 3
echo 'http_server_config: {headers: {X-Frame-Options: deny}}' > /tmp/shared/web.yml
for _ in {1..100}; do busybox wget -S -O /dev/null http://127.0.0.1:29186/ 2> head; grep -q deny head && break; sleep 0.2; done
cp /tmp/shared/web.yml /tmp/shared/new.yml; mv /tmp/shared/new.yml /tmp/shared/web.yml; sleep 5
busybox wget -S -O /dev/null http://127.0.0.1:29186/ 2> after; end_export; code=$?; rm -r /tmp/shared; exit $code\n",
        |said, _| {
            said.expect_code(0)?;
            let log = said.file("export.log")?;
            expect_parts(&log, &["prefault: /tmp/shared/web.yml is read again only until another file takes its place"])?;
            ensure!(!log.contains("reads /proc /sys /tmp/shared;"), "the whole folder can be read\n{log}");
            expect_parts(&said.file("head")?, &["deny"])?;
            // What was in force stays, and what is wrong is said.
            expect_parts(&log, &["failed to read the web config /tmp/shared/web.yml: Permission denied"])?;
            expect_parts(&said.file("after")?, &["deny"])
        },
    ),
    case("exporter as a user that does not exist", "prefault export --user nobody-at-all\n", |said, _| {
        expect_refusal(said, &["/etc/passwd", "nobody-at-all", "UID:GID"])
    }),
];

fn another_user(said: &Said) -> Result<()> {
    said.expect_code(0)?;
    expect_parts(&said.stdout, &["user          1000, group 1000, no further groups\n"])?;
    for part in ["CAP_SYS_ADMIN", "and so become root", "root's"] {
        ensure!(!said.stdout.contains(part), "not expected: {part}\n{}", said.stdout);
    }
    Ok(())
}

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
fn goes_on(said: &Said, user: &str, capabilities: &[&str], n_lines: usize) -> Result<()> {
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
    ensure!(complaints == n_lines, "expected {n_lines} lines, got\n{}", said.file("export.log")?);
    Ok(())
}
