//! The command line of `prefault export`, as typed.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use regex_lite::Regex;

use super::{FilterArgs, address::Address, counting::CountingArgs, privilege::PrivilegeArgs, seconds};

/// Series of filesystems, unless the user says otherwise.
const DEFAULT_SERIES: u64 = 64;

/// Options of `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo prefault export                             metrics at http://localhost:29186/metrics
  sudo prefault export --listen 0.0.0.0:29186 --web-config /etc/prefault/web-config.yml
  sudo prefault export --listen unix:/run/prefault/prefault.sock
  sudo prefault export --textfile /var/lib/prometheus/node-exporter/prefault.prom

Port 29186 is outside 9100 to 9999, the range of the exporters' port list, which is fully
allocated, and below the ports that Linux gives to outgoing connections.

Exit codes:
  0  ended by SIGTERM or SIGINT
  2  an error, said in one line on standard error")]
pub struct ExportArgs {
    /// Address to answer at: HOST:PORT, :PORT for every address, or unix:/PATH; may be repeated [default:
    /// localhost:29186; none with --textfile, or if systemd passes sockets]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<Address>,
    /// TLS and basic authentication, in the form of the Prometheus exporter toolkit's web-config.yml
    #[arg(long, value_name = "FILE")]
    pub web_config: Option<PathBuf>,
    /// Only say whether the web config is right, and end
    #[arg(long, requires = "web_config")]
    pub check_web_config: bool,
    /// Write the metrics to FILE, for node_exporter's textfile collector; its name has to end in .prom
    #[arg(long, value_name = "FILE", value_parser = prom_file)]
    pub textfile: Option<PathBuf>,
    /// Write FILE every so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, default_value = "15", requires = "textfile")]
    pub interval: Duration,
    /// Push the metrics to an OpenTelemetry collector by OTLP over HTTP, such as http://localhost:4318
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "URL")]
    pub otlp: Option<super::endpoint::Endpoint>,
    /// Push every so many seconds
    #[cfg(feature = "otlp")]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "15", requires = "otlp")]
    pub otlp_interval: Duration,
    /// Upper bounds of the classic buckets, ascending, such as 1us,10us,1ms; each is moved up to the next that the tool counts
    /// by [default: 12, from 238ns to 1s, a factor of 4 apart]
    #[arg(long, value_name = "TIME,TIME,...", value_parser = buckets)]
    pub buckets: Option<Bounds>,
    /// Add to the counters of short copies and failed prefaults the latest one as an exemplar: process, inode and position;
    /// the kernel then passes on each, which costs where they are frequent. Not with --with-mount-point, since it is not known
    /// of one where its filesystem is mounted
    #[arg(long, conflicts_with = "with_mount_point")]
    pub exemplars: bool,
    /// Filesystems with series of their own; those beyond are counted together as `other`
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SERIES, value_parser = clap::value_parser!(u64).range(..=4096))]
    pub max_series_filesystems: u64,
    /// How it counts.
    #[command(flatten)]
    pub counting: CountingArgs,
    /// Which series.
    #[command(flatten)]
    pub series: SeriesArgs,
    /// What is given up.
    #[command(flatten)]
    pub privileges: PrivilegeArgs,
    /// Which writes.
    #[command(flatten)]
    pub filters: FilterArgs,
}

/// Which filesystems are exported. They are measured all the same.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which filesystems are exported (all, if nothing is given)")]
pub struct SeriesArgs {
    /// Not those whose type matches this regular expression as a whole
    #[arg(long, value_name = "REGEX", value_parser = regex, conflicts_with = "fstype_include")]
    pub fstype_exclude: Option<Regex>,
    /// Only those whose type matches this regular expression as a whole
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    pub fstype_include: Option<Regex>,
    /// Not those whose device matches this regular expression as a whole
    #[arg(long, value_name = "REGEX", value_parser = regex, conflicts_with = "device_include")]
    pub device_exclude: Option<Regex>,
    /// Only those whose device matches this regular expression as a whole
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    pub device_include: Option<Regex>,
    /// Not those whose mount point, when they are first seen, matches this regular expression as a whole
    #[arg(long, value_name = "REGEX", value_parser = regex, requires = "with_mount_point",
          conflicts_with = "mount_point_include")]
    pub mount_point_exclude: Option<Regex>,
    /// Only those whose mount point, when they are first seen, matches this regular expression as a whole
    #[arg(long, value_name = "REGEX", value_parser = regex, requires = "with_mount_point")]
    pub mount_point_include: Option<Regex>,
    /// Add a label `mountpoint`: where the filesystem was mounted when it was first seen
    #[arg(long)]
    pub with_mount_point: bool,
}

/// A regular expression that has to match as a whole, as in Prometheus itself.
fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{text})$")).map_err(|error| error.to_string())
}

/// node_exporter reads no other files.
fn prom_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().is_some_and(|extension| extension == "prom") && path.file_name().is_some() {
        true => Ok(path),
        false => Err("node_exporter reads only files whose name ends in .prom".to_owned()),
    }
}

/// Upper bounds of buckets, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds(pub Vec<u64>);

fn buckets(text: &str) -> Result<Bounds, String> {
    text.split(',').map(nanoseconds).collect::<Result<_, _>>().map(Bounds)
}

/// A time with its unit, in nanoseconds.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} has to be a number with a unit: ns, us, ms or s, such as 250us");
    let begin = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(begin);
    let factor = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(wrong()),
    };
    let ns = number.parse::<f64>().map_err(|_| wrong())? * factor;
    // Beyond it everything is in the bucket without bound.
    (1.0..1e12).contains(&ns).then(|| ns.round() as u64).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(nanoseconds("250us"), Ok(250_000));
        assert_eq!(nanoseconds("0.5ms"), Ok(500_000));
        for bad in ["", "1", "us", "-1s", "1h", "1 s", "nans", "1e30s", "0ns"] {
            assert!(nanoseconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn regular_expressions_match_as_a_whole() {
        let tmpfs = regex("tmpfs|ext.").expect("well formed");
        assert!(tmpfs.is_match("ext4") && !tmpfs.is_match("devtmpfs") && !tmpfs.is_match("ext45"));
        assert!(regex("(").is_err());
    }

    #[test]
    fn only_prom_files_are_taken() {
        assert!(prom_file("/a/b.prom").is_ok());
        for bad in ["/a/b", "/a/.prom", "b.prom/", "b.prom~"] {
            assert_eq!(prom_file(bad).is_ok(), bad == "b.prom/", "{bad}");
        }
    }
}
