//! The bridge from `tracing` to the log.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::format::Record;
use super::spec::logger_of;
use super::{Level, LogControl};

/// Fields and messages are cut at this length, bytes: what is logged may come from a stranger.
const MAX_TEXT: usize = 16 * 1024;

/// Writes events as lines. Spans are not logged.
#[derive(Debug)]
pub(super) struct FabricLayer {
    control: LogControl,
}

impl FabricLayer {
    pub fn new(control: LogControl) -> Self {
        Self { control }
    }

    fn writes(&self, metadata: &Metadata<'_>) -> bool {
        if !metadata.is_event() {
            return false;
        }
        let level = Level::of(*metadata.level());
        let threshold = self
            .control
            .0
            .spec
            .load()
            .level_of(&logger_of(metadata.target()));
        // Fatal and panic entries are events of level error; they pass where error does, and
        // where only they are wanted the event itself decides.
        level >= threshold || (level == Level::Error && threshold > Level::Error)
    }

    fn write(&self, level: Level, metadata: &Metadata<'_>, texts: &Texts) {
        let shared = &self.control.0;
        let logger = logger_of(metadata.target());
        let record = Record {
            level,
            logger: &logger,
            function: metadata.module_path().map_or("(unknown)", last_part),
            caller: metadata.file().zip(metadata.line()),
            message: &texts.message,
            fields: &texts.fields,
            time: &Zoned::now(),
            id: shared.sequence.fetch_add(1, Relaxed) + 1,
        };
        LINE.with_borrow_mut(|line| {
            line.clear();
            shared.format.write(&record, line);
            // There is no place to report that the log cannot be written.
            let _ = shared.writer.lock().write_all(line.as_bytes());
        });
        self.control.counter(level).fetch_add(1, Relaxed);
    }
}

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn last_part(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

impl<S: Subscriber> Layer<S> for FabricLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.writes(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.writes(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.control.0.spec.load().lowest() {
            Level::Payload => LevelFilter::TRACE,
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            _ => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut texts = Texts::default();
        event.record(&mut texts);
        let metadata = event.metadata();
        let level = texts.severity.unwrap_or(Level::of(*metadata.level()));
        if level
            >= self
                .control
                .0
                .spec
                .load()
                .level_of(&logger_of(metadata.target()))
        {
            self.write(level, metadata, &texts);
        }
    }
}

/// The texts of an event.
#[derive(Debug, Default)]
struct Texts {
    message: String,
    fields: Vec<(&'static str, String)>,
    severity: Option<Level>,
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(cut(value)),
            "severity" => self.severity = Level::parse(value),
            name => self.fields.push((name, cut(value).to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded(String::new());
        // An error only means that the text was too long.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text.0);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = Bounded(String::new());
        let _ = write!(text, "{value}");
        let mut cause = value.source();
        while let Some(error) = cause {
            // Most of our errors tell their cause in their own message.
            let told = error.to_string();
            if !text.0.contains(&told) && write!(text, ": {told}").is_err() {
                break;
            }
            cause = error.source();
        }
        self.record_str(field, &text.0);
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// A text that stops growing at [`MAX_TEXT`].
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_TEXT {
            self.0.push_str(cut(text));
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
