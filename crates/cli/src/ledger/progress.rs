//! Progress bars, on standard error if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of blocks.
pub fn blocks(count: u64) -> Result<ProgressBar, anyhow::Error> {
    bar(count, "{msg}{wide_bar} {pos}/{len} blocks, {eta} left")
}

/// A bar of bytes in block files.
pub fn bytes(count: u64) -> Result<ProgressBar, anyhow::Error> {
    bar(count, "{msg}{wide_bar} {bytes}/{total_bytes}, {eta} left")
}

fn bar(length: u64, template: &str) -> Result<ProgressBar, anyhow::Error> {
    Ok(ProgressBar::new(length).with_style(ProgressStyle::with_template(template)?))
}
