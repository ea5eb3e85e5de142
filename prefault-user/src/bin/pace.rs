//! Times writes one by one: what the cost of measuring is measured with. On an emulated processor whose clock counts
//! instructions a nanosecond is one.

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use prefault_user::workload::{
    file::File,
    memory::{Mapping, PAGE},
};

/// Prints the mean time of a write in nanoseconds, that of the fastest of several batches: nothing but disturbances makes
/// the others slower
#[derive(Parser)]
struct Args {
    /// Bytes of a write
    #[arg(long, default_value_t = PAGE)]
    size: usize,
    /// Writes of a batch
    #[arg(long, default_value_t = 200)]
    count: u32,
    /// Batches
    #[arg(long, default_value_t = 5)]
    batches: usize,
    /// Make the first page of the source not resident before each write
    #[arg(long)]
    absent: bool,
    /// Directory in which a file is made
    target: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let source = Mapping::new(args.size.div_ceil(PAGE))?;
    let file = File::create(&args.target, 0)?;
    let mut means = Vec::new();
    // The first batch makes the file and warms everything up.
    for _ in 0..=args.batches {
        let mut sum_ns = 0;
        for _ in 0..args.count {
            if args.absent {
                source.drop_page(0)?;
            }
            let begun = Instant::now();
            let written = file.write(source.page(0), args.size, 0)?;
            sum_ns += begun.elapsed().as_nanos();
            ensure!(written == args.size as u64, "only {written} bytes were written");
        }
        means.push(sum_ns as f64 / f64::from(args.count));
    }
    println!("{:.1}", means[1..].iter().copied().fold(f64::INFINITY, f64::min));
    Ok(())
}
