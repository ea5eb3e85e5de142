//! How numbers are written for people: one base unit inside, formatted only here.
//!
//! Nothing is rounded to zero or to all: what is not quite none or not quite everything says so.

use crate::data::{LossEntry, LossUnit};

const NS_PER_SECOND: f64 = 1e9;

/// A duration given in nanoseconds: whole nanoseconds below a microsecond, else three significant digits in µs, ms or
/// s, and whole seconds from 1000 on.
pub fn duration(ns: f64) -> String {
    if ns < 999.5 {
        return format!("{ns:.0} ns");
    }
    for (unit, unit_ns) in [("µs", 1e3), ("ms", 1e6), ("s", NS_PER_SECOND)] {
        let value = ns / unit_ns;
        if value < 999.5 {
            return format!("{} {unit}", three_digits(value));
        }
    }
    format!("{} s", count((ns / NS_PER_SECOND).round() as u64))
}

/// A number of bytes: whole below 1 KiB, else three significant digits in KiB, MiB, GiB or TiB.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        // 1023.5 and more would be written as 1024.
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{} {unit}", three_digits(value))
}

/// A count in full, with thousands separators.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in full and what was counted.
pub fn counted(n: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", count(n), if n == 1 { singular } else { plural })
}

/// A count in at most six characters: in full below 100,000, else three significant digits and k, M, G, T, P or E.
pub fn compact_count(n: u64) -> String {
    if n < 100_000 {
        return count(n);
    }
    let mut value = n as f64;
    let mut unit = "";
    for larger in ["k", "M", "G", "T", "P", "E"] {
        if value < 999.5 {
            break;
        }
        value /= 1e3;
        unit = larger;
    }
    format!("{}{unit}", three_digits(value))
}

/// How many per second, rounded; 0 if no time has passed.
pub fn per_second(count: u64, duration_ns: u64) -> u64 {
    if duration_ns == 0 {
        return 0;
    }
    (count as f64 * NS_PER_SECOND / duration_ns as f64).round() as u64
}

/// A fraction in percent, without the sign: `0`, `<0.001`, two significant digits below 1, else one decimal; `>99.9`
/// and `100` are told apart.
pub fn percent_number(fraction: f64) -> String {
    let percent = fraction * 100.0;
    if percent <= 0.0 {
        "0".to_owned()
    } else if percent < 0.001 {
        "<0.001".to_owned()
    } else if percent < 0.00995 {
        format!("{percent:.4}")
    } else if percent < 0.0995 {
        format!("{percent:.3}")
    } else if percent < 0.995 {
        format!("{percent:.2}")
    } else if percent < 99.95 {
        format!("{percent:.1}")
    } else if percent < 100.0 {
        ">99.9".to_owned()
    } else {
        format!("{percent:.0}")
    }
}

/// As [`percent_number`], with its sign.
pub fn percent(fraction: f64) -> String {
    format!("{} %", percent_number(fraction))
}

/// A part of a whole as a fraction, `None` if there is no whole.
pub fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Text as it came from the kernel, with everything that could act on a terminal escaped.
pub fn printable(text: &str) -> String {
    let escape = |character: char| match character {
        ' ' => " ".to_owned(),
        _ if character.is_control() || character.is_whitespace() => character.escape_default().to_string(),
        _ => character.to_string(),
    };
    text.chars().map(escape).collect()
}

/// `value` with three significant digits, if it is from 1 to below 10,000; more of them where the integer has more.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        _ if value < 9.995 => 2,
        _ if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// How much was lost, with its unit where it is a time.
pub fn lost(entry: &LossEntry) -> String {
    match entry.unit {
        LossUnit::Times | LossUnit::Bytes => count(entry.count),
        LossUnit::Nanoseconds => duration(entry.count as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (ns, expected) in [
            (0.0, "0 ns"),
            (0.6, "1 ns"),
            (999.4, "999 ns"),
            (999.5, "1.00 µs"),
            (1_000.0, "1.00 µs"),
            (9_994.0, "9.99 µs"),
            (9_996.0, "10.0 µs"),
            (99_960.0, "100 µs"),
            (999_600.0, "1.00 ms"),
            (12_345_678.0, "12.3 ms"),
            (999_500_000.0, "1.00 s"),
            (59_949_000_000.0, "59.9 s"),
            (999.6e9, "1,000 s"),
            (86_400e9, "86,400 s"),
        ] {
            assert_eq!(duration(ns), expected, "{ns}");
        }
    }

    #[test]
    fn byte_counts() {
        for (n, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1024 * 10 - 1, "10.0 KiB"),
            (1024 * 1023, "1023 KiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
            (82_739_200, "78.9 MiB"),
            (5 << 30, "5.00 GiB"),
            (3 << 40, "3.00 TiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(n), expected, "{n}");
        }
    }

    #[test]
    fn counts_in_full_and_compact() {
        for (n, full, compact) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_000, "1,000", "1,000"),
            (20_200, "20,200", "20,200"),
            (99_999, "99,999", "99,999"),
            (100_000, "100,000", "100k"),
            (999_499, "999,499", "999k"),
            (999_500, "999,500", "1.00M"),
            (12_345_678, "12,345,678", "12.3M"),
            (7_000_000_000, "7,000,000,000", "7.00G"),
            (u64::MAX, "18,446,744,073,709,551,615", "18.4E"),
        ] {
            assert_eq!(count(n), full);
            assert_eq!(compact_count(n), compact);
            assert!(compact.len() <= 6);
        }
    }

    #[test]
    fn one_is_singular() {
        for (n, expected) in [(0, "0 copies"), (1, "1 copy"), (1234, "1,234 copies")] {
            assert_eq!(counted(n, "copy", "copies"), expected);
        }
    }

    #[test]
    fn percentages_are_never_rounded_to_none_or_all() {
        for (part, whole, expected) in [
            (0, 5, "0 %"),
            (1, 1_000_000, "<0.001 %"),
            (1, 100_000, "0.0010 %"),
            (1, 12_000, "0.0083 %"),
            (1, 10_000, "0.010 %"),
            (200, 20_200, "0.99 %"),
            (9_949, 1_000_000, "0.99 %"),
            (1, 100, "1.0 %"),
            (1, 3, "33.3 %"),
            (9_994, 10_000, "99.9 %"),
            (99_999, 100_000, ">99.9 %"),
            (7, 7, "100 %"),
            (3, 2, "150 %"),
        ] {
            assert_eq!(fraction(part, whole).map(percent).as_deref(), Some(expected), "{part} of {whole}");
        }
        assert_eq!(fraction(0, 0), None);
    }

    #[test]
    fn rates() {
        for (n, duration_ns, expected) in [(10, 2_000_000_000, 5), (1, 3_000_000_000, 0), (7, 0, 0)] {
            assert_eq!(per_second(n, duration_ns), expected);
        }
    }

    #[test]
    fn text_from_the_kernel_cannot_act_on_a_terminal() {
        assert_eq!(printable("a b\u{1b}[2J\r\n\tµ\u{85}"), "a b\\u{1b}[2J\\r\\n\\tµ\\u{85}");
    }
}
