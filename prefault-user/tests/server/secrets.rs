//! Secrets in a web config, wherever they stand in it by mistake: no error shows one.

use std::fs;

use super::web_config::{Folder, check};

/// Parts of what must not be shown, each of them its own.
fn secrets(folder: &Folder) -> (String, Vec<String>) {
    let key = fs::read_to_string(folder.0.join("localhost.key")).expect("readable");
    let parts = key.lines().filter(|line| !line.starts_with("-----")).map(|line| line[..line.len().min(16)].to_owned());
    (key.clone(), parts.collect())
}

/// Each line further in.
fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}\n")).collect()
}

#[test]
fn no_error_shows_a_key_or_a_hash() {
    let folder = Folder::new("secrets");
    let (key, parts) = secrets(&folder);
    let hash = bcrypt::hash("secret", 4).expect("hashed");
    let tls = "tls_server_config:\n  cert_file: localhost.pem\n";
    let one_line = key.replace('\n', "");
    let line = key.lines().nth(1).expect("a line");
    let mut cases = vec![
        // A key that is cut off, that is not indented, that is no block, that is a path, or a name.
        format!("{tls}  key: |\n{}", indented(&key.replace("-----END PRIVATE KEY-----", ""), "    ")),
        format!("{tls}  key: |\n{}", indented(&key[..key.len() / 2], "    ")),
        format!("{tls}  key: |\n{key}"),
        format!("{tls}  key: |\n  {line}\n bad: [\n"),
        format!("{tls}  key: {one_line}\n"),
        format!("{tls}  key: \"{one_line}\n"),
        format!("{tls}  key: [{line}]\n"),
        format!("{tls}  key:\n    {line}: {line}\n"),
        format!("{tls}  key_file: {one_line}\n"),
        format!("{tls}  key_file: |\n{}", indented(&key, "    ")),
        format!("{tls}  {line}: x\n"),
        format!("{line}: x\n"),
        format!("{line}\n"),
        format!("*{line}\n"),
        format!("!{line} x\n"),
        format!("{tls}  key: |\n{}\n {line}\n", indented(&key, "    ")),
        format!("tls_server_config:\n  cert: |\n{}  key_file: localhost.key\n", indented(&key, "    ")),
        format!("tls_server_config: {line}\n"),
        // A hash that is cut off, twice, exchanged with its user, of a wrong cost, a password itself.
        format!("basic_auth_users:\n  alice: {}\n", &hash[..40]),
        format!("basic_auth_users:\n  alice: {}\n", hash.replace("$04$", "$03$")),
        format!("basic_auth_users:\n  alice: {}\n", hash.replace("$04$", "$31$")),
        format!("basic_auth_users:\n  {hash}: alice\n"),
        format!("basic_auth_users:\n  {hash}: {hash}\n  {hash}: {hash}\n"),
        format!("basic_auth_users:\n  \"{hash}:\": {hash}\n"),
        format!("basic_auth_users: {hash}\n"),
        format!("basic_auth_users: [{hash}]\n"),
        format!("basic_auth_users:\n  alice:\n    {hash}: {hash}\n"),
        format!("basic_auth_users:\n  alice: {hash}\n bob: {hash}\n"),
        format!("basic_auth_users:\n  alice: \"{hash}\n"),
        format!("basic_auth_users:\n\talice: {hash}\n"),
        format!("alice: {hash}\n"),
        format!("alice: {hash}\nalice: {hash}\n"),
        format!("---\nalice: {hash}\n---\nbob: {hash}\n"),
        format!("http_server_config:\n  headers:\n    {hash}: x\n"),
        format!("http_server_config:\n  headers:\n    X-Frame-Options: {hash}\n"),
        format!("http_server_config:\n  http2: {hash}\n"),
    ];
    for (setting, wrap) in [
        ("client_auth_type", false),
        ("min_version", false),
        ("prefer_server_cipher_suites", false),
        ("client_ca_file", false),
        ("cert_file", false),
        ("client_allowed_sans", false),
        ("cipher_suites", true),
        ("curve_preferences", true),
    ] {
        let value = if wrap { format!("[{line}]") } else { line.to_owned() };
        cases.push(format!("{tls}  key_file: localhost.key\n  {setting}: {value}\n"));
    }
    cases.push(format!(
        "{tls}  key_file: localhost.key\n  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [{line}@x]\n"
    ));
    for text in &cases {
        let (code, said, complaint) = check(&folder.write("web-config.yml", text));
        assert_eq!((code, &*said, complaint.lines().count()), (Some(2), "", 1), "{text}\n{complaint}");
        let shown = parts.iter().find(|part| complaint.contains(part.as_str()));
        assert!(shown.is_none() && !complaint.contains(&hash[10..20]), "{text}\n{complaint}");
        assert!(!complaint.contains("BEGIN") && !complaint.contains("alice"), "{text}\n{complaint}");
    }
}

#[test]
fn a_hash_that_can_never_be_right_is_refused_with_the_remedy() {
    let folder = Folder::new("hashes");
    let hash = bcrypt::hash("secret", 4).expect("hashed");
    for wrong in [
        hash.replace("$04$", "$00$"),
        hash.replace("$04$", "$03$"),
        hash.replace("$04$", "$17$"),
        hash.replace("$04$", "$32$"),
        hash.replace("$04$", "$99$"),
        hash.replace("$2b$", "$2z$"),
        hash[..59].to_owned(),
        format!("{hash}a"),
    ] {
        let text = format!("basic_auth_users:\n  alice: {hash}\n  bob: {wrong}\n");
        let (code, _, complaint) = check(&folder.write("web-config.yml", &text));
        assert_eq!(code, Some(2), "{wrong}");
        assert!(complaint.contains("line 3: ") && complaint.contains("htpasswd -nBC 10"), "{wrong}: {complaint}");
    }
}
