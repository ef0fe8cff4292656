use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The environment names a folder that is not there.
    #[error("FABRIC_CFG_PATH {} does not exist or is not a folder", path.display())]
    NoSuchFolder {
        /// The value of FABRIC_CFG_PATH.
        path: PathBuf,
    },
    /// No core.yaml in any of the folders that are searched.
    #[error("core.yaml was not found in {}; set FABRIC_CFG_PATH to the folder that holds it", searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NotFound {
        /// The folders that were searched, in order.
        searched: Vec<PathBuf>,
    },
    /// A file could not be read.
    #[error("cannot read {}{}: {source}", path.display(), key.map(|key| format!(" (configured as {key})")).unwrap_or_default())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The key that names it; none for core.yaml itself.
        key: Option<&'static str>,
        /// What the system said.
        source: io::Error,
    },
    /// core.yaml is not valid YAML.
    #[error("{} line {line}, column {column}: {message}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Line of the trouble, from 1.
        line: u64,
        /// Column of the trouble, from 1.
        column: u64,
        /// What the parser met.
        message: String,
    },
    /// One or more values cannot be used; all of them are listed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Values(Vec<ValueError>),
}

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {key} is {}, expected {expected}", match value { Some(value) => format!("\"{}\"", value.escape_debug()), None => "not set".to_owned() })]
pub struct ValueError {
    /// The key in Fabric's spelling, for instance `peer.gossip.pullInterval`.
    pub key: String,
    /// The value as given; none if the key is absent.
    pub value: Option<String>,
    /// What would have been right.
    pub expected: String,
    /// Where the value came from.
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of core.yaml; line 0 if the key does not stand in the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
        }
    }
}
