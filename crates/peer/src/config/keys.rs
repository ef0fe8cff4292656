//! The keys of Fabric's core.yaml that Selvedge accepts without using them, and the search for
//! the key that a misspelled one was meant to be.

use std::collections::{BTreeMap, BTreeSet};

use super::layers::{Layers, variable_of};

/// Keys of Fabric v2.5 and v3.1 that a node has no use for: Docker, CouchDB, profiling of Go,
/// pushing to statsd, limits of chaincode batches, and what only the command line reads.
const ACCEPTED: [&str; 53] = [
    "chaincode.builder",
    "chaincode.golang.dynamicLink",
    "chaincode.golang.runtime",
    "chaincode.id.name",
    "chaincode.id.path",
    "chaincode.java.runtime",
    "chaincode.logging.format",
    "chaincode.logging.level",
    "chaincode.logging.shim",
    "chaincode.node.runtime",
    "chaincode.pull",
    "chaincode.runtimeParams.maxSizeGetMultipleKeys",
    "chaincode.runtimeParams.maxSizeWriteBatch",
    "chaincode.runtimeParams.useGetMultipleKeys",
    "chaincode.runtimeParams.useWriteBatch",
    "ledger.blockchain",
    "ledger.state.couchDBConfig.cacheSize",
    "ledger.state.couchDBConfig.couchDBAddress",
    "ledger.state.couchDBConfig.createGlobalChangesDB",
    "ledger.state.couchDBConfig.internalQueryLimit",
    "ledger.state.couchDBConfig.maxBatchUpdateSize",
    "ledger.state.couchDBConfig.maxRetries",
    "ledger.state.couchDBConfig.maxRetriesOnStartup",
    "ledger.state.couchDBConfig.password",
    "ledger.state.couchDBConfig.requestTimeout",
    "ledger.state.couchDBConfig.username",
    "ledger.state.couchDBConfig.warmIndexesAfterNBlocks",
    "logging.level",
    "metrics.statsd.address",
    "metrics.statsd.network",
    "metrics.statsd.prefix",
    "metrics.statsd.writeInterval",
    "orderer.address",
    "orderer.client.connTimeout",
    "orderer.tls.clientAuthRequired",
    "orderer.tls.clientCert.file",
    "orderer.tls.clientKey.file",
    "orderer.tls.enabled",
    "orderer.tls.handshakeTimeShift",
    "orderer.tls.rootcert.file",
    "orderer.tls.serverhostoverride",
    "peer.client.connTimeout",
    "peer.gossip.nonBlockingCommitMode",
    "peer.gossip.stateInfoRetentionInterval",
    "peer.profile.listenAddress",
    "peer.tls.handshakeTimeShift",
    "peer.tls.serverhostoverride",
    "vm.docker.attachStdout",
    "vm.docker.tls.ca.file",
    "vm.docker.tls.cert.file",
    "vm.docker.tls.enabled",
    "vm.docker.tls.key.file",
    "vm.endpoint",
];

/// Sections whose keys are free.
const OPEN_SECTIONS: [&str; 6] = [
    "chaincode.system",
    "peer.BCCSP.PKCS11",
    "peer.handlers.decorators",
    "peer.handlers.endorsers",
    "peer.handlers.validators",
    "vm.docker.hostConfig",
];

/// Names every key and `CORE_*` variable that means nothing, with the nearest one that does.
/// `read` are the keys that were asked for.
pub(super) fn unknown(layers: &Layers, read: &BTreeSet<&'static str>) -> Vec<String> {
    let known: Vec<&str> = read.iter().copied().chain(ACCEPTED).collect();
    let mut warnings = Vec::new();

    let lower: BTreeSet<String> = known.iter().map(|key| key.to_lowercase()).collect();
    for (key, entry) in &layers.entries {
        if !lower.contains(key) && !in_open_section(key) && !is_empty_section(key, &lower) {
            warnings.push(format!(
                "{} line {}: unknown key {}{}",
                layers.file.display(),
                entry.line,
                entry.written,
                hint(nearest_key(key, &known)),
            ));
        }
    }

    let variables: BTreeMap<String, &str> =
        known.iter().map(|key| (variable_of(key), *key)).collect();
    let open: Vec<String> = OPEN_SECTIONS
        .iter()
        .map(|section| variable_of(section) + "_")
        .collect();
    for name in layers.environment.keys() {
        let free = open.iter().any(|prefix| name.starts_with(prefix.as_str()));
        if !free && !variables.contains_key(name) {
            let near = nearest(name, variables.keys().map(String::as_str), 0.85);
            warnings.push(format!(
                "environment variable {name} matches no configuration key{}",
                hint(near)
            ));
        }
    }
    warnings
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near}?"))
        .unwrap_or_default()
}

fn in_open_section(key: &str) -> bool {
    OPEN_SECTIONS.iter().any(|section| {
        key.strip_prefix(section.to_lowercase().as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// A section of known keys that was left without content.
fn is_empty_section(key: &str, known: &BTreeSet<String>) -> bool {
    let prefix = format!("{key}.");
    known
        .range(prefix.clone()..)
        .next()
        .is_some_and(|next| next.starts_with(&prefix))
}

/// The known key that `key` (lower case) was probably meant to be: one with the same last part
/// in another section, a similar last part in the same section, or a similar whole.
fn nearest_key<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let (section, last) = key.rsplit_once('.').unwrap_or(("", key));
    let siblings = known.iter().copied().filter(|candidate| {
        candidate
            .rsplit_once('.')
            .is_some_and(|(other, _)| other.to_lowercase() == section)
    });
    let sibling = siblings
        .map(|candidate| {
            let name = candidate
                .rsplit_once('.')
                .map_or(candidate, |(_, name)| name);
            (
                strsim::normalized_damerau_levenshtein(last, &name.to_lowercase()),
                candidate,
            )
        })
        .filter(|(score, _)| *score >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate);
    sibling
        .or_else(|| nearest(key, known.iter().copied(), 0.85))
        .or_else(|| {
            known.iter().copied().find(|candidate| {
                candidate
                    .rsplit_once('.')
                    .is_some_and(|(_, name)| name.to_lowercase() == last)
            })
        })
}

fn nearest<'a>(
    text: &str,
    candidates: impl Iterator<Item = &'a str>,
    at_least: f64,
) -> Option<&'a str> {
    let text = text.to_lowercase();
    candidates
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(&text, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(score, _)| *score >= at_least)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
