//! Log specifications: `[<logger>[,<logger>...]=]<level>[:[<logger>[,<logger>...]=]<level>...]`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::Level;

/// Which levels are on for which loggers (flogging's LoggerLevels).
///
/// A level for `gossip` holds for `gossip.state` too unless that has one of its own; a level for
/// `gossip.` (with a period) holds for exactly `gossip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    default: Level,
    loggers: BTreeMap<String, Level>,
}

/// Why a text is no log specification. The messages are Fabric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A segment is no level, or has more than one equals sign.
    #[error("invalid logging specification '{spec}': bad segment '{segment}'")]
    BadSegment {
        /// The whole specification.
        spec: String,
        /// The part between two colons.
        segment: String,
    },
    /// Nothing stands before the equals sign.
    #[error("invalid logging specification '{spec}': no logger specified in segment '{segment}'")]
    NoLogger {
        /// The whole specification.
        spec: String,
        /// The part between two colons.
        segment: String,
    },
    /// A logger's name has characters that names do not have.
    #[error("invalid logging specification '{spec}': bad logger name '{logger}'")]
    BadLogger {
        /// The whole specification.
        spec: String,
        /// The name.
        logger: String,
    },
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            default: Level::Info,
            loggers: BTreeMap::new(),
        }
    }
}

impl FromStr for LogSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let mut parsed = Self::default();
        for segment in spec.split(':') {
            let bad = || SpecError::BadSegment {
                spec: spec.to_owned(),
                segment: segment.to_owned(),
            };
            let Some((loggers, level)) = segment.split_once('=') else {
                parsed.default = match segment {
                    "" => Level::Info,
                    name => Level::parse(name).ok_or_else(bad)?,
                };
                continue;
            };
            if level.contains('=') {
                return Err(bad());
            }
            if loggers.is_empty() {
                return Err(SpecError::NoLogger {
                    spec: spec.to_owned(),
                    segment: segment.to_owned(),
                });
            }
            let level = Level::parse(level).ok_or_else(bad)?;
            for logger in loggers.split(',') {
                if !is_logger_name(logger.strip_suffix('.').unwrap_or(logger)) {
                    return Err(SpecError::BadLogger {
                        spec: spec.to_owned(),
                        logger: logger.to_owned(),
                    });
                }
                parsed.loggers.insert(logger.to_owned(), level);
            }
        }
        Ok(parsed)
    }
}

/// The normalised form, as GET /logspec shows it.
impl fmt::Display for LogSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (logger, level) in &self.loggers {
            write!(f, "{logger}={level}:")?;
        }
        write!(f, "{}", self.default)
    }
}

impl LogSpec {
    /// The lowest level that `logger` writes.
    #[must_use]
    pub fn level_of(&self, logger: &str) -> Level {
        if self.loggers.is_empty() {
            return self.default;
        }
        if let Some(level) = self.loggers.get(&format!("{logger}.")) {
            return *level;
        }
        let mut candidate = logger;
        loop {
            if let Some(level) = self.loggers.get(candidate) {
                return *level;
            }
            match candidate.rsplit_once('.') {
                Some((parent, _)) => candidate = parent,
                None => return self.default,
            }
        }
    }

    /// The lowest level that any logger writes.
    #[must_use]
    pub fn lowest(&self) -> Level {
        self.loggers
            .values()
            .copied()
            .fold(self.default, Level::min)
    }
}

/// Parts of letters, digits and `_ # : -`, separated by periods.
fn is_logger_name(name: &str) -> bool {
    name.split('.').all(|part| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '#' | ':' | '-'))
    })
}

/// The logger that a `tracing` target stands for.
///
/// Statements of our crates either name Fabric's logger as their target (`gossip.state`) or have
/// their module's path, which stands for the logger that Fabric has for the subject. The libraries
/// of the gRPC stack are Fabric's logger `grpc`.
pub(super) fn logger_of(target: &str) -> Cow<'_, str> {
    const OURS: [(&str, &str); 9] = [
        ("selvedge_transport::gossip", "gossip.comm"),
        ("selvedge_transport", "comm.grpc"),
        ("selvedge_orderer_client", "peer.blocksprovider"),
        ("selvedge_ledger", "blkstorage"),
        ("selvedge_channel", "common.channelconfig"),
        ("selvedge_policy", "policies"),
        ("selvedge_msp", "msp"),
        ("selvedge_gossip", "gossip"),
        ("selvedge_peer", "peer"),
    ];
    const GRPC: [&str; 7] = [
        "h2",
        "hyper",
        "hyper_util",
        "tonic",
        "tower",
        "rustls",
        "axum",
    ];
    if let Some((_, logger)) = OURS.iter().find(|(path, _)| is_within(target, path)) {
        return Cow::Borrowed(logger);
    }
    if GRPC.iter().any(|path| is_within(target, path)) {
        return Cow::Owned(format!("grpc.{}", target.replace("::", ".")));
    }
    if target.contains("::") {
        Cow::Owned(target.replace("::", "."))
    } else {
        Cow::Borrowed(target)
    }
}

/// Whether `target` is the module `path` or one inside it.
fn is_within(target: &str, path: &str) -> bool {
    target
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", "info")]
    #[case("debug", "debug")]
    #[case("WARNING", "warn")]
    #[case("info:gossip=debug:msp=warn", "gossip=debug:msp=warn:info")]
    #[case(
        "gossip,peer.orderers=debug:error",
        "gossip=debug:peer.orderers=debug:error"
    )]
    #[case("info:debug", "debug")]
    #[case("gossip=debug:", "gossip=debug:info")]
    #[case("gossip.=debug:info", "gossip.=debug:info")]
    #[case(
        "critical:a=notice:b=payload:c=fatal",
        "a=info:b=payload:c=fatal:error"
    )]
    fn normalised(#[case] spec: &str, #[case] expected: &str) {
        assert_eq!(spec.parse::<LogSpec>().unwrap().to_string(), expected);
    }

    #[rstest]
    #[case("loud", "invalid logging specification 'loud': bad segment 'loud'")]
    #[case("Debug", "invalid logging specification 'Debug': bad segment 'Debug'")]
    #[case(
        "info:=debug",
        "invalid logging specification 'info:=debug': no logger specified in segment '=debug'"
    )]
    #[case(
        "a=b=debug",
        "invalid logging specification 'a=b=debug': bad segment 'a=b=debug'"
    )]
    #[case("a=", "invalid logging specification 'a=': bad segment 'a='")]
    #[case(
        "a b=debug",
        "invalid logging specification 'a b=debug': bad logger name 'a b'"
    )]
    #[case(
        ".a=debug",
        "invalid logging specification '.a=debug': bad logger name '.a'"
    )]
    #[case(
        "a..=debug",
        "invalid logging specification 'a..=debug': bad logger name 'a..'"
    )]
    fn refused(#[case] spec: &str, #[case] message: &str) {
        assert_eq!(spec.parse::<LogSpec>().unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case("gossip", Level::Debug)]
    #[case("gossip.state", Level::Debug)]
    #[case("gossip.pull.engine", Level::Error)]
    #[case("gossipy", Level::Warn)]
    #[case("msp", Level::Payload)]
    #[case("msp.cache", Level::Warn)]
    fn the_nearest_ancestor_counts(#[case] logger: &str, #[case] level: Level) {
        let spec: LogSpec = "warn:gossip=debug:gossip.pull=error:msp.=payload"
            .parse()
            .unwrap();
        assert_eq!(spec.level_of(logger), level);
        assert_eq!(spec.lowest(), Level::Payload);
    }

    #[rstest]
    #[case("gossip.state", "gossip.state")]
    #[case("selvedge_transport::gossip::stream", "gossip.comm")]
    #[case("selvedge_transport::server", "comm.grpc")]
    #[case("selvedge_msp", "msp")]
    #[case("selvedge_mspx::a", "selvedge_mspx.a")]
    #[case("h2::codec::framed_read", "grpc.h2.codec.framed_read")]
    #[case("hyper", "grpc.hyper")]
    fn loggers_of_targets(#[case] target: &str, #[case] logger: &str) {
        assert_eq!(logger_of(target), logger);
    }
}
