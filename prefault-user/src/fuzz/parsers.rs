//! Parsers of what the kernel, files and people say. Whatever it is, there is an answer or an error.

use std::{fs, path::PathBuf, process, sync::Arc};

use clap::Parser as _;

use super::source::{Source, changed};
use crate::{
    bpf::made,
    cli::Cli,
    cli::address::Address,
    exporter::web_config::WebConfig,
    kernel::{
        btf::Btf,
        frozen::KernelFacts,
        symbols::Symbols,
        text::{Kcore, ReadText as _},
    },
};

/// A kernel's BTF, made small: a structure with an anonymous union and a bit field, an enumeration, a function of a pointer to
/// a qualified typedef, and one of each other kind.
const BTF: &[u8] = include_bytes!("examples/btf");

const KALLSYMS: &[u8] = b"\
ffffffff81000000 T _stext\n\
ffffffff81000010 T first\n\
ffffffff81000040 t second\n\
ffffffff81000100 T _etext\n\
ffffffff82000000 D data\n\
ffffffffc0000000 t write_iter\t[ntfs3]\n\
ffffffffc0200000 t bpf_prog_1\t[bpf]\n";

const KPROBES: &[u8] = b"\
ffffffff81001234  k  vfs_write+0x5    [OPTIMIZED]\n\
ffffffffc0801000  r  fuse_perform_write+0x0  fuse [DISABLED][FTRACE]\n";

const WEB_CONFIG: &[u8] = b"\
tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n  client_auth_type: NoClientCert\n  min_version: TLS13\n\
http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n\
basic_auth_users:\n  alice: $2b$10$9GuFJbJ1Qac5tkvghxK3leooNuU2nMKeepFbLTuQPNMWs4tP2rYwG\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this process with these contents; it is made anew for each input.
fn file(name: &str, contents: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("prefault-fuzz-{}-{name}", process::id()));
    fs::write(&path, contents).expect("the temporary folder is there");
    path
}

#[test]
fn btf_is_read_or_refused() {
    let ask = |btf: &Btf| {
        for name in ["one", "two", "three", "write", ""] {
            for member in ["one", "two", "three", "nowhere"] {
                let _bytes = btf.member_offset(name, member);
            }
            let _value = btf.enumerator(name);
            let _structure = btf.first_parameter(name);
            let _numbers = (btf.structure_id(name), btf.function_id(name));
        }
    };
    let example = Btf::parse(BTF.to_vec(), None).expect("the example is good");
    assert_eq!(example.member_offset("one", "two"), Some(12));
    assert_eq!(example.first_parameter("write").as_deref(), Some("one"));
    assert_eq!(example.enumerator("three"), Some(3));
    let base = Arc::new(example);
    bolero::check!().for_each(|input: &[u8]| {
        let bytes = changed(BTF, input);
        if let Ok(btf) = Btf::parse(bytes.clone(), None) {
            ask(&btf);
            if let Ok(module) = Btf::parse(BTF.to_vec(), Some(Arc::new(btf))) {
                ask(&module);
            }
        }
        if let Ok(module) = Btf::parse(bytes, Some(Arc::clone(&base))) {
            ask(&module);
        }
    });
}

#[test]
fn symbols_are_read_or_refused() {
    bolero::check!().for_each(|input: &[u8]| {
        let Ok(symbols) = Symbols::parse(text(&changed(KALLSYMS, input))) else { return };
        let ranges = [symbols.text(), symbols.text_of(None), symbols.text_of(Some("ntfs3"))].concat();
        assert!(ranges.iter().all(|range| symbols.iter().any(|symbol| symbol.address == range.start)));
        let addresses: Vec<u64> = symbols.iter().map(|symbol| symbol.address).collect();
        for address in addresses.into_iter().chain([0, u64::MAX]) {
            for near in [address, address.wrapping_sub(1), address.wrapping_add(1)] {
                let found = symbols.containing(near);
                assert!(found.is_none_or(|(symbol, range)| range.contains(&near) && symbol.address == range.start));
            }
        }
    });
}

#[test]
fn core_files_are_read_or_refused() {
    let mut example = vec![0; 64 + 2 * 56];
    example[..6].copy_from_slice(b"\x7fELF\x02\x01");
    example[32] = 64;
    example[54..58].copy_from_slice(&[56, 0, 2, 0]);
    for (place, address, bytes) in [(64, 0xffff_ffff_8100_0000_u64, 16_u64), (120, u64::MAX - 15, 16)] {
        example[place] = 1;
        example[place + 8] = 176;
        example[place + 16..place + 24].copy_from_slice(&address.to_le_bytes());
        example[place + 32..place + 40].copy_from_slice(&bytes.to_le_bytes());
    }
    example.extend([0x90; 16]);
    let read = |kcore: &Kcore, address: u64| kcore.read_text(address, &mut [0; 8]);
    let path = file("kcore", &example);
    assert!(read(&Kcore::open(&path).expect("the example is good"), 0xffff_ffff_8100_0008).is_ok());
    bolero::check!().for_each(|input: &[u8]| {
        let Ok(kcore) = Kcore::open(&file("kcore", &changed(&example, input))) else { return };
        let any = Source(input).word();
        for address in [0, 0xffff_ffff_8100_0000, 0xffff_ffff_8100_0009, u64::MAX - 15, u64::MAX - 7, u64::MAX, any] {
            let _text = read(&kcore, address);
        }
    });
    fs::remove_file(path).expect("it is there");
}

#[test]
fn lists_of_kprobes_are_read() {
    bolero::check!().for_each(|input: &[u8]| {
        let list = text(&changed(KPROBES, input));
        assert!(made::parse(&list).len() <= list.lines().count());
    });
}

#[test]
fn web_configs_are_read_or_refused() {
    let path = file("web.yml", b"");
    bolero::check!().for_each(|input: &[u8]| {
        let _config = WebConfig::read(&file("web.yml", &changed(WEB_CONFIG, input)));
    });
    fs::remove_file(path).expect("it is there");
}

#[test]
fn command_lines_are_read_or_refused() {
    const LINES: [&[u8]; 6] = [
        b"-i 0.5 -d 10s --max-overhead 1% --sample 100 --slots 64",
        b"-p 1 --comm dd --fstype ext4 --device 8:1 --mount / --cgroup /a --follow -- ls",
        b"export --listen 127.0.0.1:29186 --listen unix:/run/a --textfile a.prom -i 15 --buckets 1us,1ms,1.5s --series 9",
        b"export --web-config a --fstype-include ^ext.$ --device-exclude ( --user nobody:1 --keep-privileges",
        b"doctor --facts --json",
        b"selftest --mechanism trap",
    ];
    bolero::check!().for_each(|input: &[u8]| {
        let mut source = Source(input);
        let line = changed(LINES[source.below(LINES.len())], source.0);
        let words = text(&line);
        if let Err(error) = Cli::try_parse_from(["prefault"].into_iter().chain(words.split(' '))) {
            assert!(!error.to_string().is_empty());
        }
    });
}

#[test]
fn addresses_are_read_and_written_back() {
    bolero::check!().for_each(|input: &[u8]| {
        for example in [&b"127.0.0.1:29186"[..], b"[::1]:80", b"localhost:1", b":80", b"unix:/run/a"] {
            let _address = text(&changed(example, input)).parse::<Address>();
        }
    });
}

#[test]
fn saved_facts_are_read_or_refused() {
    let example = serde_json::to_vec(&super::functions::facts(&[7; 64]).expect("a function")).expect("facts are JSON");
    bolero::check!().for_each(|input: &[u8]| {
        let Ok(frozen) = serde_json::from_slice::<KernelFacts>(&changed(&example, input)) else { return };
        if let Ok(kernel) = frozen.thaw() {
            super::analyse(&kernel);
        }
    });
}
