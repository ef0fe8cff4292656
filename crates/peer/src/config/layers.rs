//! The two layers that values come from, and the order between them: a `CORE_*` environment
//! variable wins over core.yaml.
//!
//! The rules are those of Viper, which Fabric uses. Keys do not distinguish case; the variable of
//! `peer.gossip.bootstrap` is `CORE_PEER_GOSSIP_BOOTSTRAP`; a variable that is set but empty
//! counts; a key without a value in the file does not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::{ConfigError, Origin, ValueError};

/// A YAML value. Scalars are kept as text: which type they should have depends on who asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Scalar(String),
    Sequence(Vec<Node>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;

        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = items.next_element()? {
                    nodes.push(node);
                }
                Ok(Node::Sequence(nodes))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut nodes = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    nodes.push(entry);
                }
                Ok(Node::Map(nodes))
            }
        }

        deserializer.deserialize_any(NodeVisitor)
    }
}

/// A value of core.yaml that is no map.
#[derive(Debug)]
pub(super) struct FileEntry {
    /// The key as it stands in the file.
    pub written: String,
    pub value: Node,
    pub line: u64,
}

/// core.yaml and the environment, before anything is known about the keys.
#[derive(Debug)]
pub(super) struct Layers {
    pub file: PathBuf,
    /// By dotted key in lower case.
    pub entries: BTreeMap<String, FileEntry>,
    /// The variables that begin with `CORE_`.
    pub environment: BTreeMap<String, String>,
}

impl Layers {
    pub fn new(
        file: &Path,
        yaml: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Self {
            file: file.to_owned(),
            entries: BTreeMap::new(),
            environment: environment
                .into_iter()
                .filter(|(name, _)| name.starts_with("CORE_"))
                .collect(),
        };
        match parse(file, yaml)? {
            Node::Null => {}
            Node::Map(entries) => layers.flatten("", entries)?,
            Node::Scalar(_) | Node::Sequence(_) => {
                return Err(ConfigError::Yaml {
                    path: file.to_owned(),
                    line: 1,
                    column: 1,
                    message: "expected sections such as \"peer:\" at the top level".to_owned(),
                });
            }
        }
        Ok(layers)
    }

    fn flatten(
        &mut self,
        prefix: &str,
        entries: Vec<(String, Spanned<Node>)>,
    ) -> Result<(), ConfigError> {
        for (name, node) in entries {
            let written = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            let line = node.referenced.line();
            match node.value {
                Node::Map(entries) => self.flatten(&written, entries)?,
                value => match self.entries.entry(written.to_lowercase()) {
                    MapEntry::Vacant(slot) => {
                        slot.insert(FileEntry {
                            written,
                            value,
                            line,
                        });
                    }
                    MapEntry::Occupied(earlier) => {
                        return Err(ConfigError::Values(vec![ValueError {
                            expected: format!(
                                "the key once (keys do not distinguish case; it stands as {} in line {} too)",
                                earlier.get().written,
                                earlier.get().line,
                            ),
                            key: written,
                            value: Some("given twice".to_owned()),
                            origin: Origin::File {
                                path: self.file.clone(),
                                line,
                            },
                        }]));
                    }
                },
            }
        }
        Ok(())
    }

    /// The value of `key`, and where it is from. Null is no value.
    pub fn find(&self, key: &str) -> Option<(Node, Origin)> {
        let variable = variable_of(key);
        if let Some(value) = self.environment.get(&variable) {
            return Some((
                Node::Scalar(value.clone()),
                Origin::Environment { variable },
            ));
        }
        let entry = self.entries.get(&key.to_lowercase())?;
        let origin = Origin::File {
            path: self.file.clone(),
            line: entry.line,
        };
        (entry.value != Node::Null).then(|| (entry.value.clone(), origin))
    }

    /// The folder that relative paths count from.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }
}

/// The environment variable that overrides `key`.
pub(super) fn variable_of(key: &str) -> String {
    format!("CORE_{}", key.to_uppercase().replace('.', "_"))
}

/// Reads one YAML document. `file` is for the message only.
pub(super) fn parse(file: &Path, yaml: &str) -> Result<Node, ConfigError> {
    // Only true and false are booleans in YAML 1.2, which Fabric's parser follows.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
        let location = error.location();
        ConfigError::Yaml {
            path: file.to_owned(),
            line: location.map_or(0, |location| location.line()),
            column: location.map_or(0, |location| location.column()),
            message: error.without_snippet().to_string(),
        }
    })
}
