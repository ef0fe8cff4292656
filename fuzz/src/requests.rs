//! What clients ask, and what operators write.

use std::path::Path;
use std::time::{Duration, SystemTime};

use selvedge_msp::expires_at;
use selvedge_peer::config::Sources;
use selvedge_peer::logging::LogSpec;
use selvedge_peer::services::filters::{check_expiration, check_time_window};
use selvedge_peer::services::proposal::UnpackedProposal;
use selvedge_protos::Message;
use selvedge_protos::common::Envelope;
use selvedge_protos::protos::{
    SignedProposal, SignedSnapshotRequest, SnapshotQuery, SnapshotRequest,
};

use crate::channel;

/// A signed proposal to the endorser.
pub fn proposal(bytes: &[u8]) {
    let Ok(signed) = SignedProposal::decode(bytes) else {
        return;
    };
    let _ = check_expiration(&signed);
    let _ = check_time_window(&signed, Duration::from_secs(900), SystemTime::now());
    let Some(config) = channel() else { return };
    if let Ok(proposal) = UnpackedProposal::open(&signed) {
        let _ = proposal.validate(&**config.msps());
    }
}

/// A request to the Deliver service.
pub fn deliver_request(bytes: &[u8]) {
    let Ok(envelope) = Envelope::decode(bytes) else {
        return;
    };
    for (oldest, height) in [(0, 0), (0, 1), (0, 9), (7, 7), (7, 9), (0, u64::MAX)] {
        let found = selvedge_peer::fuzzing::seek(envelope.clone(), oldest, height);
        assert!(found.is_none_or(|(first, _)| (oldest..=height).contains(&first)));
    }
}

/// A request to the snapshot service.
pub fn snapshot_request(bytes: &[u8]) {
    let Ok(signed) = SignedSnapshotRequest::decode(bytes) else {
        return;
    };
    let headers = [
        SnapshotRequest::decode(signed.request.clone()).map(|request| request.signature_header),
        SnapshotQuery::decode(signed.request).map(|query| query.signature_header),
    ];
    for header in headers.into_iter().flatten().flatten() {
        let _ = expires_at(&header.creator);
    }
}

/// A core.yaml.
pub fn core_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(sources) = Sources::new(Path::new("core.yaml"), text, []) {
        let _ = sources.peer();
        let _ = sources.client();
    }
}

/// FABRIC_LOGGING_SPEC.
pub fn log_spec(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<LogSpec>();
    }
}

/// FABRIC_LOGGING_FORMAT, and a line in it.
pub fn log_format(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(line) = selvedge_peer::fuzzing::log_line(text)
    {
        assert!(line.len() < 1 << 20, "a line of {} bytes", line.len());
    }
}
