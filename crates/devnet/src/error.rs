//! Why a network could not be built or run.

use std::io;
use std::path::PathBuf;

/// Why a network could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// An option has a value that no network can be built from.
    #[error("--{option} is {found}, expected {expected}")]
    Option {
        /// The option, without its dashes.
        option: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A file or folder could not be written, read or removed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, such as "cannot write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key or certificate could not be made.
    #[error("cannot make the certificate of {subject}: {source}")]
    Certificate {
        /// Its common name.
        subject: String,
        /// What the certificate library says.
        source: rcgen::Error,
    },
}

pub(crate) fn file_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> DevnetError {
    let path = path.into();
    move |source| DevnetError::File {
        action,
        path,
        source,
    }
}
