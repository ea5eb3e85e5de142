//! `prefault export`: measure until told to stop, and answer Prometheus.

use anyhow::{Result, anyhow};

use crate::{
    cli::export::{Bounds, ExportArgs},
    exporter::{Exporter, runtime, web_config::WebConfig},
    output::{exposition::Buckets, sink::write_once},
};

/// Exports as `args` say; the result is the exit code.
///
/// # Errors
/// If it cannot begin.
pub fn run(args: &ExportArgs) -> Result<u8> {
    super::log_if(args.counting.verbose);
    let buckets = buckets(args.buckets.as_ref())?;
    if let (true, Some(path)) = (args.check_web_config, &args.web_config) {
        let said = format!("the web config is right: {}\n", describe(&WebConfig::read(path).config?));
        return write_once(&said).map(|()| 0);
    }
    let runtime = runtime()?;
    let exporter = {
        // What waits for sockets, signals and times belongs to the runtime that it is made in.
        let _entered = runtime.enter();
        Exporter::begin(args, buckets)?
    };
    match exporter {
        Some(exporter) => {
            let ended = runtime.block_on(exporter.serve());
            // A file server that hangs does not hold up the end.
            runtime.shutdown_background();
            ended.map(|()| 0)
        }
        None => Ok(0),
    }
}

fn buckets(bounds: Option<&Bounds>) -> Result<Buckets> {
    let Some(Bounds(bounds)) = bounds else { return Ok(Buckets::default()) };
    Buckets::up_to(bounds).map_err(|why| anyhow!("invalid value for --buckets: {why}"))
}

fn describe(web_config: &WebConfig) -> String {
    let tls = if web_config.tls.is_some() { "TLS" } else { "no TLS" };
    format!("{tls}, {} users", web_config.users.len())
}
