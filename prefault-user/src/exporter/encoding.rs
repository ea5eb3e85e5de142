//! How the content of an answer is encoded, by the client's Accept-Encoding header (RFC 9110, 12.5.3).

use std::io::{self, Write as _};

use flate2::{Compression, write::GzEncoder};

/// Fast, because a scrape waits for it: at the next levels metrics become hardly smaller.
const LEVEL: Compression = Compression::fast();

/// Whether the header wants an answer compressed by gzip at least as much as one that is left as it is.
pub fn gzip_is_wanted(accept_encoding: &str) -> bool {
    let (mut gzip, mut identity, mut rest) = (None, None, None);
    for coding in accept_encoding.split(',') {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        // What is no weight wants nothing.
        let weight = |part: &str| match part.split_once('=') {
            Some((key, value)) if key.trim().eq_ignore_ascii_case("q") => value.trim().parse().unwrap_or(0.0),
            _ => 0.0,
        };
        let weight: f32 = parts.next().map_or(1.0, weight);
        let place = match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => &mut gzip,
            "identity" => &mut identity,
            "*" => &mut rest,
            _ => continue,
        };
        // Of what is said twice the first counts.
        place.get_or_insert(weight);
    }
    let gzip = gzip.or(rest).unwrap_or(0.0);
    // Whoever wants gzip and does not speak of the other wants gzip.
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// Compresses by gzip.
///
/// # Errors
/// Writing to memory has none.
pub fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 8), LEVEL);
    encoder.write_all(content)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::source::changed;

    #[test]
    fn gzip_is_used_if_it_is_wanted() {
        for (accept_encoding, expected) in [
            ("gzip", true),
            // curl --compressed, browsers.
            ("deflate, gzip, br, zstd", true),
            ("GZIP;Q=0.5", true),
            ("x-gzip", true),
            ("*", true),
            ("br, *;q=0.1", true),
            ("gzip;q=0.001, identity;q=0", true),
            ("gzip ; q=1.000 , identity", true),
            ("", false),
            ("identity", false),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("*;q=0", false),
            ("gzip;q=0.5, identity;q=0.8", false),
            ("gzip;q=nan", false),
            ("gzip;q=-1", false),
            ("gzip;q=", false),
            ("gzip;level=9", false),
            ("gzip;q=0, gzip", false),
            (";;;,,=;q=,", false),
            ("gzipped", false),
        ] {
            assert_eq!(gzip_is_wanted(accept_encoding), expected, "{accept_encoding}");
        }
    }

    #[test]
    fn what_is_said_first_of_gzip_and_identity_counts() {
        bolero::check!().for_each(|input: &[u8]| {
            let rest = changed(b"br, gzip;q=0.5, identity;q=0.8, *;q=0.1", input);
            let rest = String::from_utf8_lossy(&rest);
            assert!(gzip_is_wanted(&format!("gzip,identity;q=0,{rest}")), "{rest}");
            assert!(!gzip_is_wanted(&format!("gzip;q=0,{rest}")), "{rest}");
            let _wanted = gzip_is_wanted(&rest);
        });
    }
}
