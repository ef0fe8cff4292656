//! `ledger dump-state`: the state of a channel.

use std::io::Write as _;

use anyhow::anyhow;
use selvedge_ledger::Options;
use selvedge_ledger::state::StateEntry;
use serde::Serialize;

use super::{channels, open};
use crate::args::{DumpStateArgs, Output};
use crate::failure::{Failure, print_note};

/// In the names of namespaces that hold the hashes of a collection.
const HASHED: &str = "$$h";

/// An entry as a line of JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    #[serde(rename_all = "camelCase")]
    Public {
        namespace: &'a str,
        key: Text<'a>,
        value: Text<'a>,
        version: [u64; 2],
        #[serde(skip_serializing_if = "String::is_empty")]
        metadata: String,
    },
    #[serde(rename_all = "camelCase")]
    Hashed {
        namespace: &'a str,
        key_hash: String,
        value_hash: String,
        version: [u64; 2],
        #[serde(skip_serializing_if = "String::is_empty")]
        metadata: String,
    },
}

/// Bytes as text where they are, else in hex.
#[derive(Serialize)]
#[serde(untagged)]
enum Text<'a> {
    Text(&'a str),
    Bytes { hex: String },
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Bytes {
                hex: hex::encode(bytes),
            },
        }
    }
}

/// Prints every entry of a channel's state, in the order of namespaces and keys.
pub fn dump_state(arguments: &DumpStateArgs) -> Result<(), Failure> {
    let ledgers = open(&arguments.ledger.dir, Options::default())?;
    let channels = channels(&ledgers, &arguments.ledger)?;
    let [channel] = channels.as_slice() else {
        let names = channels.join(", ");
        return Err(
            anyhow!("there are several channels, choose one with --channel: {names}").into(),
        );
    };
    let state = ledgers.inspect(channel)?.state()?;
    let state = state.ok_or_else(|| {
        anyhow!(
            "channel {channel} has no state: `selvedge ledger rebuild` makes one of the block files"
        )
    })?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let only = arguments.namespace.as_deref().map(str::as_bytes);
    let mut count = 0_u64;
    for entry in state.entries() {
        let entry = entry?;
        if only.is_some_and(|only| entry.namespace != only) {
            continue;
        }
        count += 1;
        let line = match arguments.output {
            Output::Json => json(&entry)?,
            Output::Text => text(&entry),
        };
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    let height = state.savepoint()?.map_or(0, |savepoint| savepoint + 1);
    print_note(&format!("{channel}: {count} entries after {height} blocks"));
    Ok(())
}

fn json(entry: &StateEntry) -> Result<String, serde_json::Error> {
    let namespace = String::from_utf8_lossy(&entry.namespace);
    let version = &entry.value.version;
    let version = [version.block_num, version.tx_num];
    let metadata = hex::encode(&entry.value.metadata);
    let line = if namespace.contains(HASHED) {
        Line::Hashed {
            namespace: &namespace,
            key_hash: hex::encode(&entry.key),
            value_hash: hex::encode(&entry.value.value),
            version,
            metadata,
        }
    } else {
        Line::Public {
            namespace: &namespace,
            key: Text::of(&entry.key),
            value: Text::of(&entry.value.value),
            version,
            metadata,
        }
    };
    serde_json::to_string(&line)
}

fn text(entry: &StateEntry) -> String {
    let value = &entry.value;
    let is_hashed = entry
        .namespace
        .windows(HASHED.len())
        .any(|part| part == HASHED.as_bytes());
    let shown = |bytes: &[u8]| match is_hashed {
        true => hex::encode(bytes),
        false => format!("\"{}\"", bytes.escape_ascii()),
    };
    let metadata = match value.metadata.is_empty() {
        true => String::new(),
        false => format!(" metadata {}", hex::encode(&value.metadata)),
    };
    format!(
        "{} {} = {} ({}, {}){metadata}",
        entry.namespace.escape_ascii(),
        shown(&entry.key),
        shown(&value.value),
        value.version.block_num,
        value.version.tx_num
    )
}
