//! A Prometheus server on this machine that scrapes a guest, and its answers.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::http;
use crate::{paths, prometheus};

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Which histograms it scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scrapes {
    /// Classic ones, as OpenMetrics text.
    Classic,
    /// Native ones, as protobuf.
    Native,
}

/// A server that runs; it ends with this.
pub struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    /// Starts a server that scrapes `target`, a port of this machine, each second. Its files are in `directory`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(directory: &Path, target: u16, scrapes: Scrapes) -> Result<Self> {
        paths::create_dir(directory)?;
        let configuration = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n- job_name: prefault\n  \
             static_configs:\n  - targets: ['127.0.0.1:{target}']\n"
        );
        paths::write(&directory.join("prometheus.yml"), configuration)?;
        let log = File::create(directory.join("log")).context("failed to create the log of prometheus")?;
        let port = http::free_port()?;
        let mut command = Command::new(prometheus::program("prometheus")?);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg("--enable-feature=exemplar-storage");
        if scrapes == Scrapes::Native {
            command.arg("--enable-feature=native-histograms");
        }
        command.current_dir(directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: command.spawn().context("failed to start prometheus")?, port })
    }

    /// The value of an expression that has exactly one.
    ///
    /// # Errors
    /// When it has not, or cannot be asked.
    pub fn value(&self, expression: &str) -> Result<f64> {
        let answer = http::get(self.port, &format!("/api/v1/query?query={}", http::encoded(expression)))?;
        let answer: Value = serde_json::from_str(&answer).context("failed to read an answer of prometheus")?;
        let result = answer.pointer("/data/result").and_then(Value::as_array).context("no result")?;
        ensure!(result.len() == 1, "{expression} has {} values, expected one: {answer}", result.len());
        let value = result[0].pointer("/value/1").and_then(Value::as_str);
        value.and_then(|value| value.parse().ok()).with_context(|| format!("{expression} is no number: {answer}"))
    }

    /// Labels of all exemplars of the series that a selector selects.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn exemplars(&self, selector: &str) -> Result<Vec<Value>> {
        let answer = http::get(self.port, &format!("/api/v1/query_exemplars?query={}", http::encoded(selector)))?;
        let answer: Value = serde_json::from_str(&answer).context("failed to read an answer of prometheus")?;
        let series = answer.pointer("/data").and_then(Value::as_array).context("no data")?;
        let exemplars = series.iter().filter_map(|series| series.get("exemplars")?.as_array()).flatten();
        Ok(exemplars.filter_map(|exemplar| exemplar.get("labels").cloned()).collect())
    }

    /// Waits until an expression has one value, and it is `expected`.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn wait_for(&self, expression: &str, expected: f64, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let value = self.value(expression);
            match value {
                Ok(value) if value == expected => return Ok(()),
                Ok(value) if Instant::now() >= deadline => bail!("{expression} is {value}, expected {expected}"),
                Err(error) if Instant::now() >= deadline => return Err(error),
                _ => thread::sleep(POLL_INTERVAL),
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It has nothing to save: its data are thrown away.
        let _unused = self.child.kill();
        let _unused = self.child.wait();
    }
}
