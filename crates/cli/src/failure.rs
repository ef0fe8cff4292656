//! How a command ends that did not do what it was asked for.

use std::io::Write as _;

use selvedge_peer::logging;
use tracing::error;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// To be reported as `Error: ...`.
    Error(anyhow::Error),
    /// The environment is not fit for any command. Fabric reports these in the log.
    Setup(String),
    /// A node ended that should have gone on, which belongs in the log too.
    Fatal(anyhow::Error),
}

impl Failure {
    /// Tells the operator.
    pub fn report(&self) {
        match self {
            Self::Error(error) => print_error(&causes(error)),
            Self::Setup(reason) => error!(target: "main", "{reason}"),
            Self::Fatal(error) => logging::fatal(&causes(error)),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// The messages of an error and its causes, joined by colons. Most of our errors tell their cause
/// in their own message, so one that has been said is not said again.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Writes `Error: ` and the text, with a line break at the end.
pub fn print_error(text: &str) {
    // Nothing can be done about a closed terminal, here and below.
    let _ = writeln!(std::io::stderr().lock(), "Error: {}", text.trim_end());
}

/// Writes a line that is no result to standard error.
pub fn print_note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes a result to standard output.
pub fn print_out(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn no_cause_is_told_twice() {
        let error = anyhow!("disk full")
            .context("cannot write x: disk full")
            .context("no block");
        assert_eq!(causes(&error), "no block: cannot write x: disk full");
    }
}
