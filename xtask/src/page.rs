//! `cargo xtask page`: pictures of the exporter's start page as a browser shows it, for people to look at. Not part of the
//! tests: a browser is large, and whether a page is fine is seen, not computed.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use prefault_lab::{paths, process};

use crate::setup::debian::{self, BROWSER};

const PROGRAM: &str = "chromium";
const LIMIT: Duration = Duration::from_secs(120);
/// The page of the golden test, which has everything a page can have, and the one that the end-to-end test saw last.
const PAGES: [(&str, &str); 2] =
    [("golden", "prefault-user/tests/output/page.html"), ("guest", "target/prometheus/page.html")];
/// A desktop and a phone; Chromium's windows are at least 500 wide.
const WINDOWS: [(&str, &str); 2] = [("wide", "1000,1000"), ("narrow", "500,1000")];
const SCHEMES: [(&str, &[&str]); 2] =
    [("light", &[]), ("dark", &["--force-dark-mode", "--blink-settings=preferredColorScheme=0"])];

/// Takes the pictures and says where they are.
///
/// # Errors
/// When there is no browser, or it takes no picture.
pub fn run() -> Result<()> {
    debian::ensure(&BROWSER)?;
    let pictures = paths::target("page");
    paths::create_dir(&pictures)?;
    for (page, source) in PAGES.into_iter().filter(|(_, source)| paths::workspace().join(source).exists()) {
        let url = format!("file://{}", paths::workspace().join(source).display());
        for (window, size) in WINDOWS {
            for (scheme, options) in SCHEMES {
                let picture = pictures.join(format!("{page}-{window}-{scheme}.png"));
                take(&url, size, options, &picture)?;
                println!("{}", picture.display());
            }
        }
    }
    Ok(())
}

fn take(url: &str, size: &str, options: &[&str], picture: &Path) -> Result<()> {
    let mut browser = Command::new(PROGRAM);
    // Without a sandbox: root cannot have one, and the page is our own.
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]).args(options);
    browser.arg(format!("--window-size={size}")).arg(format!("--screenshot={}", picture.display())).arg(url);
    let taken = process::succeeds_within(&mut browser, LIMIT) && picture.exists();
    ensure!(taken, "failed to take a picture of {url}");
    Ok(())
}
