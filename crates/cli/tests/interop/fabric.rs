//! Fabric's released binaries, where `FABRIC_BIN` and `FABRIC_BIN_OLD` say.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

/// What the suite runs. Fabric's archives hold more.
const TOOLS: [&str; 4] = ["peer", "orderer", "configtxgen", "osnadmin"];
/// Of all three programs; what is set outside must not reach a node of a test.
const PREFIXES: [&str; 4] = ["CORE_", "FABRIC_", "ORDERER_", "OSN_"];

/// A directory with Fabric's binaries, all of one version.
#[derive(Debug, Clone)]
pub struct Fabric {
    folder: PathBuf,
    version: String,
    older: Result<Box<Fabric>, String>,
}

impl Fabric {
    /// What `FABRIC_BIN` names, with what `FABRIC_BIN_OLD` names, or why the suite cannot run.
    pub fn from_environment() -> Result<Self, String> {
        let mut fabric = Self::named_by("FABRIC_BIN")?;
        fabric.older = Self::named_by("FABRIC_BIN_OLD").map(Box::new);
        Ok(fabric)
    }

    fn named_by(variable: &str) -> Result<Self, String> {
        let folder = std::env::var_os(variable)
            .filter(|folder| !folder.is_empty())
            .ok_or_else(|| format!("{variable} is not set"))?;
        let folder = PathBuf::from(folder);
        if let Some(missing) = TOOLS.iter().find(|tool| !folder.join(tool).is_file()) {
            return Err(format!(
                "{variable} is {}, which has no `{missing}`",
                folder.display()
            ));
        }
        let mut fabric = Self {
            folder,
            version: String::new(),
            older: Err(format!("{variable} names one version")),
        };
        let output = fabric.command("peer").arg("version").output();
        let output = output.map_err(|error| format!("`peer version` does not run: {error}"))?;
        fabric.version = String::from_utf8_lossy(&output.stdout)
            .lines()
            .find_map(|line| line.trim().strip_prefix("Version:"))
            .map(|version| version.trim().trim_start_matches('v').to_owned())
            .ok_or("`peer version` prints no version")?;
        Ok(fabric)
    }

    /// Such as `3.1.5`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Peers of an earlier release, or why there are none.
    pub fn older(&self) -> Result<&Self, &str> {
        match &self.older {
            Ok(older) => Ok(older),
            Err(reason) => Err(reason),
        }
    }

    /// Whether channels may have the capability `V3_0`, and with it BFT ordering.
    pub fn has_v3(&self) -> bool {
        self.version.starts_with("3.")
    }

    /// One of its programs, in an environment without settings of Fabric's.
    pub fn command(&self, tool: &str) -> Command {
        clean(self.folder.join(tool))
    }
}

/// A program that sees no settings of the environment in which the suite runs.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if PREFIXES
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Standard output of a command that must succeed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    match try_run(command) {
        Ok(output) => output,
        Err(failure) => panic!("{failure}"),
    }
}

/// Standard output of a command, or all that it said if it failed.
pub fn try_run(command: &mut Command) -> Result<String, String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(format!("{command:?}: {status}\n{stdout}{stderr}"))
}
