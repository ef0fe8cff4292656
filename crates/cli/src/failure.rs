//! How a command ends that did not do what it was asked for.

use std::io::Write as _;

use tracing::error;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// To be reported as `Error: ...`.
    Error(anyhow::Error),
    /// The environment is not fit for any command. Fabric reports these in the log.
    Setup(String),
}

impl Failure {
    /// Tells the operator.
    pub fn report(&self) {
        match self {
            Self::Error(error) => print_error(&format!("{error:#}")),
            Self::Setup(reason) => error!(target: "main", "{reason}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Writes `Error: ` and the text, with a line break at the end.
pub fn print_error(text: &str) {
    // Nothing can be done about a closed terminal, here and below.
    let _ = writeln!(std::io::stderr().lock(), "Error: {}", text.trim_end());
}

/// Writes a result to standard output.
pub fn print_out(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
