//! Typed access to the layers. Mistakes are collected, so that an operator sees all of them at
//! once; a mistaken value reads as its default meanwhile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address;
use super::duration;
use super::error::{Origin, ValueError};
use super::layers::{Layers, Node, parse};

/// Reads what Go's `strconv.ParseBool` reads: `true`, `T`, `1`...
#[must_use]
pub fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads values and remembers which keys were asked for.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    pub read: BTreeSet<&'static str>,
    pub errors: Vec<ValueError>,
    pub warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            read: BTreeSet::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn find(&mut self, key: &'static str) -> Option<(Node, Origin)> {
        self.read.insert(key);
        self.layers.find(key)
    }

    /// Reports the value of `key` as wrong.
    pub fn wrong(&mut self, key: &'static str, expected: impl Into<String>) {
        let (value, origin) = match self.find(key) {
            Some((node, origin)) => (Some(describe(&node)), origin),
            None => (
                None,
                Origin::File {
                    path: self.layers.file.clone(),
                    line: 0,
                },
            ),
        };
        self.errors.push(ValueError {
            key: key.to_owned(),
            value,
            expected: expected.into(),
            origin,
        });
    }

    /// A warning about the value of `key`, with its origin.
    pub fn warn(&mut self, key: &'static str, message: &str) {
        let origin = self
            .find(key)
            .map(|(_, origin)| format!("{origin}: "))
            .unwrap_or_default();
        self.warnings.push(format!("{origin}{key} {message}"));
    }

    /// The scalar under `key`, if there is one that is not empty.
    fn scalar(&mut self, key: &'static str, expected: &str) -> Option<String> {
        match self.find(key)?.0 {
            Node::Scalar(text) => (!text.is_empty()).then_some(text),
            _ => {
                self.wrong(key, expected);
                None
            }
        }
    }

    /// A text; `None` if absent or empty.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.scalar(key, "a text")
    }

    /// A text that must be given.
    pub fn required(&mut self, key: &'static str, expected: &str) -> String {
        let found = self.scalar(key, expected);
        if found.is_none() && self.errors.last().is_none_or(|error| error.key != key) {
            self.wrong(key, expected);
        }
        found.unwrap_or_default()
    }

    /// One of `choices`, without regard to case; `default` if absent.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let expected = choices
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(" or ");
        let Some(text) = self.scalar(key, &expected) else {
            return default;
        };
        match choices
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&text))
        {
            Some((_, value)) => *value,
            None => {
                self.wrong(key, expected);
                default
            }
        }
    }

    /// Refuses anything but `supported`, without regard to case; absent is fine.
    pub fn only(&mut self, key: &'static str, supported: &str, expected: &str) {
        if self
            .scalar(key, expected)
            .is_some_and(|text| !text.eq_ignore_ascii_case(supported))
        {
            self.wrong(key, expected);
        }
    }

    /// What [`parse_flag`] accepts. Empty is false, as in Fabric.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let text = match self.find(key) {
            None => return default,
            Some((Node::Scalar(text), _)) => Some(text),
            Some(_) => None,
        };
        match text.as_deref() {
            Some("") => false,
            text => text.and_then(parse_flag).unwrap_or_else(|| {
                self.wrong(key, "true or false");
                default
            }),
        }
    }

    /// A whole number that fits `T`; `default` if absent or empty.
    pub fn number<T: TryFrom<u64>>(&mut self, key: &'static str, default: T) -> T {
        const EXPECTED: &str = "a whole number, zero or more";
        let Some(text) = self.scalar(key, EXPECTED) else {
            return default;
        };
        match text.parse::<u64>().ok().map(T::try_from) {
            Some(Ok(value)) => value,
            Some(Err(_)) => {
                self.wrong(key, "a smaller number");
                default
            }
            None => {
                self.wrong(key, EXPECTED);
                default
            }
        }
    }

    /// As [`Self::number`], and zero means the default (Fabric's `GetIntOrDefault`).
    pub fn positive<T: TryFrom<u64> + Default + PartialEq + Copy>(
        &mut self,
        key: &'static str,
        default: T,
    ) -> T {
        let value = self.number(key, default);
        if value == T::default() {
            default
        } else {
            value
        }
    }

    /// A number from 0 to 1.
    pub fn ratio(&mut self, key: &'static str, default: f64) -> f64 {
        const EXPECTED: &str = "a number from 0 to 1";
        let Some(text) = self.scalar(key, EXPECTED) else {
            return default;
        };
        match text.parse() {
            Ok(value) if (0.0..=1.0).contains(&value) => value,
            _ => {
                self.wrong(key, EXPECTED);
                default
            }
        }
    }

    /// A duration; `default` if absent or empty.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let Some(text) = self.scalar(key, duration::EXPECTED) else {
            return default;
        };
        duration::parse_duration(&text).unwrap_or_else(|| {
            self.wrong(key, duration::EXPECTED);
            default
        })
    }

    /// As [`Self::duration`], and zero means the default (Fabric's `GetDurationOrDefault`).
    pub fn interval(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.duration(key, default);
        if value.is_zero() { default } else { value }
    }

    /// `host:port`; `None` if absent or empty.
    pub fn address(&mut self, key: &'static str) -> Option<String> {
        let text = self.scalar(key, address::EXPECTED)?;
        if address::split_host_port(&text).is_none() {
            self.wrong(key, address::EXPECTED);
            return None;
        }
        Some(text)
    }

    /// A list of texts. In a variable they are separated by white space, as Viper has it.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        match self.find(key) {
            None => Vec::new(),
            Some((Node::Scalar(text), _)) => text.split_whitespace().map(str::to_owned).collect(),
            Some((Node::Sequence(items), _)) => {
                let texts: Option<Vec<String>> = items.into_iter().map(text_of).collect();
                texts.unwrap_or_else(|| {
                    self.wrong(key, "a list of texts");
                    Vec::new()
                })
            }
            Some(_) => {
                self.wrong(key, "a list of texts");
                Vec::new()
            }
        }
    }

    /// A list of `host:port`.
    pub fn addresses(&mut self, key: &'static str) -> Vec<String> {
        let addresses = self.texts(key);
        if addresses
            .iter()
            .any(|text| address::split_host_port(text).is_none())
        {
            self.wrong(
                key,
                format!(
                    "a list of {}; in an environment variable, separated by white space",
                    address::EXPECTED
                ),
            );
        }
        addresses
    }

    /// A path, from the folder of core.yaml on if relative; `None` if absent or empty.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.scalar(key, "a path")
            .map(|text| self.resolve(Path::new(&text)))
    }

    /// A list of paths.
    pub fn paths(&mut self, key: &'static str) -> Vec<PathBuf> {
        self.texts(key)
            .iter()
            .map(|text| self.resolve(Path::new(text)))
            .collect()
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.layers.folder().join(path)
    }

    /// A list of small maps, each given to `read`; in a variable it is YAML in one line
    /// (`[{from: a:1, to: b:1}]`). `expected` describes one item.
    pub fn records<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&Record) -> Option<T>,
    ) -> Vec<T> {
        let node = match self.find(key) {
            None => return Vec::new(),
            Some((Node::Scalar(text), _)) => match parse(&self.layers.file, &text) {
                Ok(node) => node,
                Err(_) => {
                    self.wrong(key, format!("a list of {expected}"));
                    return Vec::new();
                }
            },
            Some((node, _)) => node,
        };
        let records: Option<Vec<T>> = match node {
            Node::Null => Some(Vec::new()),
            Node::Sequence(items) => items
                .into_iter()
                .map(|item| Record::new(item).and_then(|item| read(&item)))
                .collect(),
            _ => None,
        };
        records.unwrap_or_else(|| {
            self.wrong(key, format!("a list of {expected}"));
            Vec::new()
        })
    }

    /// The keys below `section` that stand in the file, with their texts.
    pub fn section(&mut self, section: &str) -> Vec<(String, String)> {
        let prefix = format!("{}.", section.to_lowercase());
        self.layers
            .entries
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter_map(|(key, entry)| {
                let text = text_of(entry.value.clone())?;
                Some((key.strip_prefix(&prefix)?.to_owned(), text))
            })
            .collect()
    }
}

/// One item of a list of maps; keys do not distinguish case.
#[derive(Debug)]
pub(super) struct Record(Vec<(String, Node)>);

impl Record {
    fn new(node: Node) -> Option<Self> {
        match node {
            Node::Map(entries) => Some(Self(
                entries
                    .into_iter()
                    .map(|(key, node)| (key.to_lowercase(), node.value))
                    .collect(),
            )),
            _ => None,
        }
    }

    /// Whether all its keys are among `names` (lower case).
    pub fn has_only(&self, names: &[&str]) -> bool {
        self.0.iter().all(|(key, _)| names.contains(&key.as_str()))
    }

    /// The text under `name` (lower case); `None` if absent, empty or no scalar.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, node) = self.0.iter().find(|(key, _)| key == name)?;
        text_of(node.clone()).filter(|text| !text.is_empty())
    }

    /// The texts under `name` (lower case).
    pub fn texts(&self, name: &str) -> Vec<String> {
        match self.0.iter().find(|(key, _)| key == name) {
            Some((_, Node::Sequence(items))) => items.iter().cloned().filter_map(text_of).collect(),
            _ => Vec::new(),
        }
    }
}

fn text_of(node: Node) -> Option<String> {
    match node {
        Node::Scalar(text) => Some(text),
        _ => None,
    }
}

/// A value for a message, cut to a readable length.
fn describe(node: &Node) -> String {
    match node {
        Node::Null => String::new(),
        Node::Scalar(text) if text.chars().count() > 200 => {
            text.chars().take(200).chain(['\u{2026}']).collect()
        }
        Node::Scalar(text) => text.clone(),
        Node::Sequence(items) => {
            let items: Vec<_> = items.iter().take(20).map(describe).collect();
            format!("[{}]", items.join(", "))
        }
        Node::Map(entries) => {
            let keys: Vec<_> = entries
                .iter()
                .take(20)
                .map(|(key, _)| key.as_str())
                .collect();
            format!("{{{}}}", keys.join(", "))
        }
    }
}
