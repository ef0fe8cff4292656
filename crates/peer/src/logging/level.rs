use std::fmt;

/// The levels of Fabric's log, from the most talkative on.
///
/// `tracing` has five levels: its TRACE is Fabric's payload level. The three levels above error
/// are there because log specifications name them and because the end of a process is logged with
/// them (see [`super::fatal`] and [`super::log_panics`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whole messages.
    Payload,
    /// For developers.
    Debug,
    /// What goes on.
    Info,
    /// What an operator should look at.
    Warn,
    /// What failed.
    Error,
    /// A mistake in the program that it survives.
    DPanic,
    /// A mistake in the program.
    Panic,
    /// The process ends.
    Fatal,
}

impl Level {
    /// All levels, in order.
    pub const ALL: [Self; 8] = [
        Self::Payload,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::DPanic,
        Self::Panic,
        Self::Fatal,
    ];

    /// The level that a log specification means: lower or upper case, with the old names `notice`
    /// (info) and `critical` (error).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        // Fabric knows DEBUG and debug, but not Debug.
        if name != lower && name != name.to_ascii_uppercase() {
            return None;
        }
        Some(match lower.as_str() {
            "payload" => Self::Payload,
            "debug" => Self::Debug,
            "info" | "notice" => Self::Info,
            "warning" | "warn" => Self::Warn,
            "error" | "critical" => Self::Error,
            "dpanic" => Self::DPanic,
            "panic" => Self::Panic,
            "fatal" => Self::Fatal,
            _ => return None,
        })
    }

    /// The name in specifications, JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::DPanic => "dpanic",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    /// The name in text lines.
    #[must_use]
    pub fn capitals(self) -> &'static str {
        match self {
            Self::Payload => "PAYLOAD",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::DPanic => "DPANIC",
            Self::Panic => "PANIC",
            Self::Fatal => "FATAL",
        }
    }

    /// The colour code (SGR) of a text line.
    pub(super) fn color(self) -> u8 {
        match self {
            Self::Payload => 0,
            Self::Debug => 36,
            Self::Info => 34,
            Self::Warn => 33,
            Self::Error => 31,
            Self::DPanic | Self::Panic | Self::Fatal => 35,
        }
    }

    pub(super) fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE => Self::Payload,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::ERROR => Self::Error,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
