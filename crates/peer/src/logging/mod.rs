//! The log: Fabric's format, levels and specification (flogging) on top of `tracing`.
//!
//! Entries go to stderr. FABRIC_LOGGING_SPEC says what is written (`info:gossip=debug:msp=warn`)
//! and can be changed while the peer runs, with PUT /logspec; FABRIC_LOGGING_FORMAT says how:
//! Fabric's line, `json`, `logfmt` or a format of one's own.
//!
//! The target of a `tracing` statement is Fabric's logger name: `gossip.state`, `gossip.comm`,
//! `peer.orderers`, `committer`, `cscc`... Statements without one belong to the logger that Fabric
//! has for the subject of their crate. Fields follow the message as ` name=value`.
//!
//! Deliberate differences from Fabric: where Fabric prints the name of the function, the last part
//! of the Rust module's path stands; and a disabled statement is switched off where it is, so it
//! cannot be counted (`logging_entries_checked`).

mod format;
mod go_time;
mod layer;
mod level;
mod limit;
mod spec;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt as _;

pub use format::FormatError;
pub use level::Level;
pub use limit::LogLimit;
pub use spec::{LogSpec, SpecError};

use format::Format;
use layer::FabricLayer;

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// FABRIC_LOGGING_SPEC is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// FABRIC_LOGGING_FORMAT is wrong.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Something else in the process already logs.
    #[error("logging has been set up before")]
    AlreadySet,
}

/// Changes and observes the log of the process. Cheap to clone.
#[derive(Clone)]
pub struct LogControl(Arc<Shared>);

struct Shared {
    spec: ArcSwap<LogSpec>,
    format: Format,
    writer: Mutex<Box<dyn Write + Send>>,
    sequence: AtomicU64,
    written: [AtomicU64; Level::ALL.len()],
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogControl")
            .field("spec", &self.0.spec)
            .finish_non_exhaustive()
    }
}

impl LogControl {
    /// A log that writes to `writer`; it is not in use until a subscriber is made of it.
    fn new(
        spec: &str,
        format: &str,
        writer: impl Write + Send + 'static,
    ) -> Result<Self, LoggingError> {
        Ok(Self(Arc::new(Shared {
            spec: ArcSwap::from_pointee(spec.parse()?),
            format: Format::parse(format)?,
            writer: Mutex::new(Box::new(writer)),
            sequence: AtomicU64::new(0),
            written: Default::default(),
        })))
    }

    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        tracing_subscriber::registry().with(FabricLayer::new(self.clone()))
    }

    /// A log that nobody writes to, for nodes without one and for tests.
    pub fn detached(spec: &str) -> Result<Self, LoggingError> {
        Self::new(spec, "", std::io::sink())
    }

    /// The active specification in its normalised form.
    #[must_use]
    pub fn spec(&self) -> String {
        self.0.spec.load().to_string()
    }

    /// Makes another specification the active one, at once and for all loggers.
    pub fn activate_spec(&self, spec: &str) -> Result<(), SpecError> {
        self.0.spec.store(Arc::new(spec.parse()?));
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// How many entries of each level were written.
    #[must_use]
    pub fn entries_written(&self) -> [(Level, u64); Level::ALL.len()] {
        Level::ALL.map(|level| (level, self.counter(level).load(Relaxed)))
    }

    fn counter(&self, level: Level) -> &AtomicU64 {
        let [payload, debug, info, warn, error, dpanic, panic, fatal] = &self.0.written;
        match level {
            Level::Payload => payload,
            Level::Debug => debug,
            Level::Info => info,
            Level::Warn => warn,
            Level::Error => error,
            Level::DPanic => dpanic,
            Level::Panic => panic,
            Level::Fatal => fatal,
        }
    }
}

/// Starts the log of this process on stderr, as FABRIC_LOGGING_SPEC and FABRIC_LOGGING_FORMAT
/// say. To be called once.
pub fn init_from_environment() -> Result<LogControl, LoggingError> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    init(
        &variable("FABRIC_LOGGING_SPEC"),
        &variable("FABRIC_LOGGING_FORMAT"),
    )
}

/// Starts the log of this process on stderr. Empty texts are Fabric's defaults. To be called
/// once.
pub fn init(spec: &str, format: &str) -> Result<LogControl, LoggingError> {
    let control = LogControl::new(spec, format, std::io::stderr())?;
    tracing::subscriber::set_global_default(control.subscriber())
        .map_err(|_| LoggingError::AlreadySet)?;
    Ok(control)
}

/// A line in a format, for [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn sample(format: &str) -> Result<String, FormatError> {
    let record = format::Record {
        level: Level::Info,
        logger: "gossip.state",
        function: "state",
        caller: Some(("state.rs", 7)),
        message: "a message",
        fields: &[("name", "value".to_owned())],
        time: &jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC),
        id: 12,
    };
    let mut line = String::new();
    Format::parse(format)?.write(&record, &mut line);
    Ok(line)
}

/// Logs the reason for the end of the process, at Fabric's level `fatal`.
pub fn fatal(message: &str) {
    tracing::error!(target: "peer", severity = "fatal", "{message}");
}

/// From now on, panics go to the log, at Fabric's level `panic`.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let reason = text.unwrap_or("no reason given");
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(target: "peer", severity = "panic", place, %backtrace, "{reason}");
    }));
}

#[cfg(test)]
mod tests;
