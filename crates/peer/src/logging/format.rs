//! Log formats: Fabric's `%{verb:format}` lines, JSON and logfmt (flogging/fabenc).

use std::fmt::Write as _;

use jiff::Zoned;

use super::Level;
use super::go_time::GoLayout;

/// Fabric's default.
const DEFAULT: &str = "%{color}%{time:2006-01-02 15:04:05.000 MST} %{id:04x} %{level:.4s}%{color:reset} [%{module}] %{color:bold}%{shortfunc}%{color:reset} -> %{message}";

/// How a record becomes a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    Text(Vec<Piece>),
    Json,
    Logfmt,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Literal(String),
    Color,
    BoldColor,
    ResetColor,
    Id(Verb),
    Level(Verb),
    Message(Verb),
    Module(Verb),
    Function(Verb),
    Time(GoLayout),
}

/// Why a log format cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("FABRIC_LOGGING_FORMAT: %{{{verb}:{format}}} is not understood")]
pub struct FormatError {
    /// What is formatted: time, level...
    pub verb: String,
    /// The format given for it.
    pub format: String,
}

/// One log entry.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub level: Level,
    pub logger: &'a str,
    pub function: &'a str,
    /// file:line
    pub caller: Option<(&'a str, u32)>,
    pub message: &'a str,
    pub fields: &'a [(&'static str, String)],
    pub time: &'a Zoned,
    pub id: u64,
}

impl Format {
    /// Reads FABRIC_LOGGING_FORMAT; empty is the default.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        match text {
            "json" => Ok(Self::Json),
            "logfmt" => Ok(Self::Logfmt),
            "" => parse_pieces(DEFAULT).map(Self::Text),
            text => parse_pieces(text).map(Self::Text),
        }
    }

    /// Appends the line of `record`, with its line break.
    pub fn write(&self, record: &Record<'_>, line: &mut String) {
        match self {
            Self::Text(pieces) => {
                for piece in pieces {
                    piece.write(record, line);
                }
                write_fields(record.fields, line);
            }
            Self::Json => write_json(record, line),
            Self::Logfmt => write_logfmt(record, line),
        }
        line.push('\n');
    }
}

/// Text that is no known verb in `%{...}` stays as it is, as in Fabric.
fn parse_pieces(text: &str) -> Result<Vec<Piece>, FormatError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("%{") {
        let (before, verb) = rest.split_at(start);
        literal.push_str(before);
        let inner = verb.strip_prefix("%{").unwrap_or(verb);
        let Some((body, after)) = inner.split_once('}') else {
            rest = verb;
            break;
        };
        let (name, format) = body.split_once(':').unwrap_or((body, ""));
        match piece_of(name, format)? {
            Some(piece) => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
                rest = after;
            }
            None => {
                literal.push_str("%{");
                rest = inner;
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn piece_of(name: &str, format: &str) -> Result<Option<Piece>, FormatError> {
    let error = || FormatError {
        verb: name.to_owned(),
        format: format.to_owned(),
    };
    let text = || {
        Verb::parse(format, 's')
            .filter(Verb::is_text)
            .ok_or_else(error)
    };
    Ok(Some(match name {
        "color" => match format {
            "" => Piece::Color,
            "bold" => Piece::BoldColor,
            "reset" => Piece::ResetColor,
            _ => return Err(error()),
        },
        "id" => Piece::Id(
            Verb::parse(format, 'd')
                .filter(|verb| !verb.is_text())
                .ok_or_else(error)?,
        ),
        "level" => Piece::Level(text()?),
        "message" => Piece::Message(text()?),
        "module" => Piece::Module(text()?),
        "shortfunc" => Piece::Function(text()?),
        "time" => Piece::Time(GoLayout::parse(match format {
            "" => "2006-01-02T15:04:05.999Z07:00",
            layout => layout,
        })),
        _ => return Ok(None),
    }))
}

impl Piece {
    fn write(&self, record: &Record<'_>, line: &mut String) {
        match self {
            Self::Literal(text) => line.push_str(text),
            Self::Color => {
                let _ = write!(line, "\x1b[{}m", record.level.color());
            }
            Self::BoldColor => {
                let color = record.level.color();
                let bold = if color == 0 { "" } else { ";1" };
                let _ = write!(line, "\x1b[{color}{bold}m");
            }
            Self::ResetColor => line.push_str("\x1b[0m"),
            Self::Id(verb) => verb.number(record.id, line),
            Self::Level(verb) => verb.text(record.level.capitals(), line),
            Self::Message(verb) => verb.text(record.message.trim_end_matches('\n'), line),
            Self::Module(verb) => verb.text(record.logger, line),
            Self::Function(verb) => verb.text(record.function, line),
            Self::Time(layout) => layout.write(record.time, line),
        }
    }
}

/// A verb of Go's fmt package without its percent sign: `04x`, `.4s`, `-8s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verb {
    left: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

impl Verb {
    /// Widths beyond this are refused: a format must not fill the memory.
    const MAX_WIDTH: usize = 256;

    fn parse(format: &str, default: char) -> Option<Self> {
        let mut rest = format;
        let (mut left, mut zeros) = (false, false);
        while let Some(flag) = rest.chars().next().filter(|c| "-0+ #".contains(*c)) {
            left |= flag == '-';
            zeros |= flag == '0';
            rest = rest.get(1..)?;
        }
        let (width, rest) = number(rest);
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (precision, rest) = number(rest);
                (Some(precision.unwrap_or(0)), rest)
            }
            None => (None, rest),
        };
        let mut chars = rest.chars();
        let kind = if format.is_empty() {
            default
        } else {
            chars.next()?
        };
        let width = width.unwrap_or(0);
        let known = "svqdxX".contains(kind) && chars.next().is_none();
        (known && width <= Self::MAX_WIDTH).then_some(Self {
            left,
            zeros,
            width,
            precision,
            kind,
        })
    }

    fn is_text(&self) -> bool {
        matches!(self.kind, 's' | 'v' | 'q')
    }

    fn text(&self, text: &str, line: &mut String) {
        let cut = match self
            .precision
            .and_then(|count| text.char_indices().nth(count))
        {
            Some((end, _)) => text.get(..end).unwrap_or(text),
            None => text,
        };
        if self.kind == 'q' {
            self.pad(&format!("{cut:?}"), line);
        } else {
            self.pad(cut, line);
        }
    }

    fn number(&self, number: u64, line: &mut String) {
        let digits = match self.kind {
            'x' => format!("{number:x}"),
            'X' => format!("{number:X}"),
            _ => number.to_string(),
        };
        if self.zeros && !self.left {
            line.extend(std::iter::repeat_n(
                '0',
                self.width.saturating_sub(digits.len()),
            ));
            line.push_str(&digits);
        } else {
            self.pad(&digits, line);
        }
    }

    fn pad(&self, text: &str, line: &mut String) {
        let blanks = std::iter::repeat_n(' ', self.width.saturating_sub(text.chars().count()));
        if self.left {
            line.push_str(text);
            line.extend(blanks);
        } else {
            line.extend(blanks);
            line.push_str(text);
        }
    }
}

fn number(text: &str) -> (Option<usize>, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    match digits {
        "" => (None, rest),
        digits => (Some(digits.parse().unwrap_or(usize::MAX)), rest),
    }
}

/// ` key=value` for each field.
fn write_fields(fields: &[(&'static str, String)], line: &mut String) {
    for (name, value) in fields {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        write_value(value, line);
    }
}

/// Quotes a value where logfmt needs it, so that a line stays a line.
fn write_value(value: &str, line: &mut String) {
    let plain = !value.is_empty()
        && value
            .chars()
            .all(|c| c > ' ' && c != '=' && c != '"' && !c.is_control());
    if plain {
        line.push_str(value);
    } else {
        let _ = write!(line, "{value:?}");
    }
}

/// Seconds since 1970 with a fraction, as zap's production encoder writes them.
fn timestamp(time: &Zoned) -> f64 {
    time.timestamp().as_duration().as_secs_f64()
}

fn write_json(record: &Record<'_>, line: &mut String) {
    let _ = write!(
        line,
        r#"{{"level":"{}","ts":{},"name":{}"#,
        record.level,
        timestamp(record.time),
        json(record.logger)
    );
    if let Some((file, number)) = record.caller {
        let _ = write!(line, r#","caller":{}"#, json(&format!("{file}:{number}")));
    }
    let _ = write!(line, r#","msg":{}"#, json(record.message));
    for (name, value) in record.fields {
        let _ = write!(line, ",{}:{}", json(name), json(value));
    }
    line.push('}');
}

fn json(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

fn write_logfmt(record: &Record<'_>, line: &mut String) {
    let _ = write!(
        line,
        "level={} ts={} name=",
        record.level,
        timestamp(record.time)
    );
    write_value(record.logger, line);
    if let Some((file, number)) = record.caller {
        let _ = write!(line, " caller={file}:{number}");
    }
    line.push_str(" msg=");
    write_value(record.message, line);
    write_fields(record.fields, line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn line(
        format: &str,
        level: Level,
        message: &str,
        fields: &[(&'static str, String)],
    ) -> String {
        let time: Zoned = "2026-03-04T05:06:07.089012+01:00[Europe/Berlin]"
            .parse()
            .unwrap();
        let record = Record {
            level,
            logger: "gossip.state",
            function: "commit",
            caller: Some(("src/commit.rs", 7)),
            message,
            fields,
            time: &time,
            id: 0x2b,
        };
        let mut line = String::new();
        Format::parse(format).unwrap().write(&record, &mut line);
        line
    }

    #[test]
    fn fabrics_default() {
        assert_eq!(
            line(
                "",
                Level::Info,
                "Committed block [3]",
                &[("height", "4".to_owned())]
            ),
            "\x1b[34m2026-03-04 05:06:07.089 CET 002b INFO\x1b[0m [gossip.state] \
             \x1b[34;1mcommit\x1b[0m -> Committed block [3] height=4\n"
        );
    }

    #[rstest]
    #[case("%{level:.4s} %{message}", "WARN hello\n")]
    #[case("%{level:-8s}|%{level:8s}|", "WARN    |    WARN|\n")]
    #[case("%{id} %{id:03X} %{id:5d}", "43 02B    43\n")]
    #[case("%{time:15:04}", "05:06\n")]
    #[case("%{unknown} %{message", "%{unknown} %{message\n")]
    #[case("%{module:q} %{shortfunc}", "\"gossip.state\" commit\n")]
    fn verbs(#[case] format: &str, #[case] expected: &str) {
        assert_eq!(line(format, Level::Warn, "hello", &[]), expected);
    }

    #[rstest]
    #[case("%{color:pink}")]
    #[case("%{id:s}")]
    #[case("%{level:.4d}")]
    #[case("%{message:99999999999s}")]
    #[case("%{message:5sx}")]
    fn formats_that_make_no_sense(#[case] format: &str) {
        Format::parse(format).unwrap_err();
    }

    #[test]
    fn json_and_logfmt() {
        let fields = [("peer", "a \"b\"".to_owned())];
        let json: serde_json::Value =
            serde_json::from_str(&line("json", Level::Error, "x\ny", &fields)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "level": "error", "ts": 1_772_597_167.089_012, "name": "gossip.state",
                "caller": "src/commit.rs:7", "msg": "x\ny", "peer": "a \"b\"",
            })
        );
        assert_eq!(
            line("logfmt", Level::Fatal, "x\ny", &fields),
            "level=fatal ts=1772597167.089012 name=gossip.state caller=src/commit.rs:7 \
             msg=\"x\\ny\" peer=\"a \\\"b\\\"\"\n"
        );
    }

    #[test]
    fn a_line_break_in_a_field_does_not_make_a_line() {
        assert_eq!(
            line("%{message}", Level::Info, "m", &[("e", "a\nb".to_owned())]),
            "m e=\"a\\nb\"\n"
        );
    }
}
