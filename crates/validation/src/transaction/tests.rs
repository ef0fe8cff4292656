//! Each layer of a transaction against the verdicts of Fabric's own functions.

use std::fmt::Write;
use std::path::Path;

use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_protos::kvrwset::Version;
use selvedge_protos::kvrwset::range_query_info::ReadsInfo;

use super::*;
use crate::rwset::{CollHashedRwSet, NsRwSet};

fn testdata(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

fn config() -> ChannelConfig {
    let genesis = std::fs::read(testdata("raft/orderer-blocks/000000.block")).unwrap();
    ChannelConfig::from_block(&Block::decode(&genesis[..]).unwrap()).unwrap()
}

fn yes(result: bool) -> &'static str {
    if result { "yes" } else { "no" }
}

/// The verdicts on one envelope, as the recording writes them.
fn judge(envelope: Bytes, config: &ChannelConfig) -> String {
    let Ok(envelope) = decode::<Envelope>(envelope, &ENVELOPE) else {
        return "no-envelope".to_owned();
    };
    let Ok(payload) = decode::<Payload>(envelope.payload.clone(), &PAYLOAD) else {
        return "no-payload".to_owned();
    };
    let action = Action::open(payload.data.clone());
    let search = match Action::searchable(&action) {
        Searchable::Yes => "yes",
        Searchable::No(_) => "no",
        Searchable::Crash(_) => "crash",
    };
    let Some(header) = payload.header else {
        return format!("no-header search={search}");
    };
    let layers = Layers {
        config,
        envelope: &envelope,
        header: &header,
        data: &payload.data,
        action: &action,
        rwset: None,
    };
    let channel_header = decode::<ChannelHeader>(header.channel_header.clone(), &CHANNEL_HEADER);
    let txid = channel_header
        .as_ref()
        .map(|header| hex::encode(&header.tx_id));
    let headers = channel_header
        .as_ref()
        .is_ok_and(|header| layers.check_headers(header).is_ok());
    let extension = channel_header.as_ref().ok().filter(|_| headers);
    let extension = extension.map_or("none", |header| {
        let extension = header.extension.clone();
        yes(decode::<ChaincodeHeaderExtension>(extension, &HEADER_EXTENSION).is_ok())
    });
    let endorsed = match layers.check_proposal() {
        Ok(None) => "yes",
        Ok(Some(_)) => "crash",
        Err(_) => "no",
    };
    let found = action.as_ref().ok();
    let found = found.and_then(|action| action.chaincode_action().ok());
    let event = found.filter(|action| !action.events.is_empty());
    let event = event.map_or("none", |action| {
        yes(decode::<ChaincodeEvent>(action.events.clone(), &CHAINCODE_EVENT).is_ok())
    });
    let results = match found.map(|action| TxRwSet::decode(action.results.clone())) {
        None => "none".to_owned(),
        Some(Err(_)) => "no".to_owned(),
        Some(Ok(rwset)) => summary(&rwset),
    };
    format!(
        "header={} txid={} extension={extension} endorsed={endorsed} search={search} event={event} \
         results={results}",
        yes(headers),
        txid.unwrap_or_else(|_| "none".to_owned()),
    )
}

fn version(version: Option<Version>) -> String {
    let Version { block_num, tx_num } = version.unwrap_or_default();
    format!("@{block_num}.{tx_num}")
}

fn summary(rwset: &TxRwSet) -> String {
    let parts = rwset.namespaces.iter().map(|part| {
        let keys = namespace_keys(part).join(",");
        format!("n{}:{keys}", hex::encode(&part.namespace))
    });
    format!("[{}]", parts.collect::<Vec<_>>().join(";"))
}

fn namespace_keys(part: &NsRwSet) -> Vec<String> {
    let mut keys = Vec::new();
    for read in &part.reads {
        keys.push(format!(
            "r{}{}",
            hex::encode(&read.key),
            version(read.version)
        ));
    }
    for query in &part.range_queries {
        let (raw, hashes) = match &query.reads_info {
            Some(ReadsInfo::RawReads(reads)) => (reads.kv_reads.len(), 0),
            Some(ReadsInfo::ReadsMerkleHashes(summary)) => (0, summary.max_level_hashes.len()),
            None => (0, 0),
        };
        let [start, end] = [&query.start_key, &query.end_key].map(hex::encode);
        keys.push(format!(
            "q{start}-{end}.{}.{raw}.{hashes}",
            query.itr_exhausted
        ));
    }
    for write in &part.writes {
        let (key, value) = (hex::encode(&write.key), hex::encode(&write.value));
        keys.push(format!("w{key}={value}.{}", write.is_delete));
    }
    for write in &part.metadata_writes {
        let key = hex::encode(&write.key);
        keys.push(format!("m{key}.{}", write.entries.len()));
    }
    keys.extend(part.collections.iter().flat_map(collection_keys));
    keys
}

fn collection_keys(part: &CollHashedRwSet) -> Vec<String> {
    let (name, hash) = (
        hex::encode(&part.collection),
        hex::encode(&part.pvt_rwset_hash),
    );
    let mut keys = vec![format!("c{name}={hash}")];
    for read in &part.reads {
        let key = hex::encode(&read.key_hash);
        keys.push(format!("r{key}{}", version(read.version)));
    }
    for write in &part.writes {
        let mut key = format!("w{}=", hex::encode(&write.key_hash));
        let value = hex::encode(&write.value_hash);
        write!(key, "{value}.{}.{}", write.is_delete, write.is_purge).unwrap();
        keys.push(key);
    }
    for write in &part.metadata_writes {
        let key = hex::encode(&write.key_hash);
        keys.push(format!("m{key}.{}", write.entries.len()));
    }
    keys
}

#[test]
fn layers_are_read_as_go_reads_them() {
    let config = config();
    let recorded = std::fs::read_to_string(testdata("forged/layers.txt")).unwrap();
    let mut differences = Vec::new();
    let mut count = 0;
    for line in recorded.lines() {
        let (envelope, expected) = line.split_once(' ').unwrap();
        let found = judge(hex::decode(envelope).unwrap().into(), &config);
        if found != expected {
            differences.push(format!("{envelope}\n   found {found}\nexpected {expected}"));
        }
        count += 1;
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(count > 1500);
}
