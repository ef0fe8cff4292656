//! The peer's configuration: Fabric's core.yaml and its `CORE_*` environment variables.
//!
//! ```text
//! core.yaml ──┐
//!             ├─ Layers ── Reader ──┬─ PeerConfig    for `node start`
//! CORE_*  ────┘                     └─ ClientConfig  for the command line
//! ```
//!
//! core.yaml lies in the folder that FABRIC_CFG_PATH names, or else in the working directory or
//! /etc/hyperledger/fabric. Keys, defaults and the precedence of the environment are Fabric's.
//!
//! Deliberate differences from Fabric, all for the sake of an operator who made a mistake:
//!
//! - A value of the wrong form is an error that names the key, the value and where it stands;
//!   Viper reads it as zero. All such errors are reported together.
//! - A duration without a unit is refused; Viper takes it for nanoseconds.
//! - A key or `CORE_*` variable that means nothing is warned of, with the key that it was
//!   probably meant to be; Fabric ignores it.
//! - A number or duration given as an empty text counts as not given; Viper reads it as zero.

mod address;
mod client;
mod duration;
mod error;
mod gossip;
mod keys;
mod layers;
mod node;
mod reader;
mod types;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use address::split_host_port;
pub use client::{ClientConfig, RemoteConfig};
pub use duration::parse_duration;
pub use error::{ConfigError, Origin, ValueError};
pub use gossip::{ElectionConfig, GossipConfig, PvtDataConfig, StateTransferConfig};
pub use reader::parse_flag;
pub use types::*;

use layers::Layers;
use reader::Reader;
use selvedge_validation::StatedVerdicts;

const FILE_NAME: &str = "core.yaml";
const OFFICIAL_FOLDER: &str = "/etc/hyperledger/fabric";

/// core.yaml and the environment, read but not yet interpreted.
#[derive(Debug)]
pub struct Sources {
    layers: Layers,
}

/// A configuration with what was odd about it, to be logged once there is a log.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub config: T,
    /// One line each, without a trailing period.
    pub warnings: Vec<String>,
}

impl Sources {
    /// Finds core.yaml by FABRIC_CFG_PATH and takes the variables of this process.
    pub fn discover() -> Result<Self, ConfigError> {
        let folder = std::env::var_os("FABRIC_CFG_PATH").filter(|path| !path.is_empty());
        let file = find_file(folder.map(PathBuf::from))?;
        let yaml = std::fs::read_to_string(&file).map_err(|source| ConfigError::Unreadable {
            path: file.clone(),
            key: None,
            source,
        })?;
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::new(&file, &yaml, environment)
    }

    /// Takes the text of a core.yaml and variables as given. `file` is where the text comes from:
    /// relative paths count from its folder.
    pub fn new(
        file: &Path,
        yaml: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            layers: Layers::new(file, yaml, environment)?,
        })
    }

    /// The configuration of a node.
    pub fn peer(&self) -> Result<Loaded<PeerConfig>, ConfigError> {
        let mut reader = Reader::new(&self.layers);
        let config = node::peer_config(&mut reader, &self.layers, address::local_ip);
        let mut loaded = finish(reader, config, |read| keys::unknown(&self.layers, read))?;
        if self.layers.find("logging.level").is_some() {
            loaded.warnings.push(
                "CORE_LOGGING_LEVEL is no longer supported, please use the FABRIC_LOGGING_SPEC environment variable"
                    .to_owned(),
            );
        }
        Ok(loaded)
    }

    /// `peer.fileSystemPath` alone, for command lines that work on a data directory.
    pub fn file_system_path(&self) -> Result<Loaded<PathBuf>, ConfigError> {
        let mut reader = Reader::new(&self.layers);
        let path = node::file_system_path(&mut reader);
        finish(reader, path, |_| Vec::new())
    }

    /// `ledger.statedVerdicts` alone, by channel.
    pub fn stated_verdicts(&self) -> Result<Loaded<BTreeMap<String, StatedVerdicts>>, ConfigError> {
        let mut reader = Reader::new(&self.layers);
        let stated = node::stated_verdicts(&mut reader);
        finish(reader, stated, |_| Vec::new())
    }

    /// The configuration of a command line. Keys that only a node reads are not looked at.
    pub fn client(&self) -> Result<Loaded<ClientConfig>, ConfigError> {
        let mut reader = Reader::new(&self.layers);
        let config = client::client_config(&mut reader);
        finish(reader, config, |_| Vec::new())
    }
}

fn finish<T>(
    reader: Reader<'_>,
    config: T,
    unknown: impl FnOnce(&std::collections::BTreeSet<&'static str>) -> Vec<String>,
) -> Result<Loaded<T>, ConfigError> {
    if !reader.errors.is_empty() {
        return Err(ConfigError::Values(reader.errors));
    }
    let mut warnings = reader.warnings;
    warnings.extend(unknown(&reader.read));
    Ok(Loaded { config, warnings })
}

fn find_file(folder: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let searched = match folder {
        Some(path) if !path.is_dir() => return Err(ConfigError::NoSuchFolder { path }),
        Some(path) => vec![path],
        None => vec![PathBuf::from("."), PathBuf::from(OFFICIAL_FOLDER)],
    };
    let found = searched
        .iter()
        .map(|path| path.join(FILE_NAME))
        .find(|path| path.is_file());
    let found = found.ok_or(ConfigError::NotFound { searched })?;
    std::path::absolute(&found).map_err(|source| ConfigError::Unreadable {
        path: found,
        key: None,
        source,
    })
}
