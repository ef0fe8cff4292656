//! Recordings of every kind that a target takes, as inputs to begin with.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::common::{
    Block, ChannelHeader, ConfigEnvelope, ConfigGroup, Envelope, Header, Payload, SignatureHeader,
};
use selvedge_protos::gossip::gossip_message::Content;
use selvedge_protos::gossip::{ConnEstablish, GossipMessage};
use selvedge_protos::kvrwset::{KvWrite, KvrwSet};
use selvedge_protos::msp::SerializedIdentity;
use selvedge_protos::orderer::{
    DeliverResponse, SeekInfo, SeekNewest, SeekPosition, SeekSpecified, deliver_response,
    seek_position,
};
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeActionPayload, Proposal, ProposalResponsePayload, SignedProposal,
    SignedSnapshotRequest, SnapshotRequest, Transaction,
};

/// Files of one folder that are taken at most.
const MOST_FILES: usize = 30;
/// Inputs are shorter.
const MOST_BYTES: usize = 64 << 10;

/// Inputs to begin with, by target. Reads the project's recordings.
///
/// # Panics
///
/// If they are not there.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut seeds = Seeds(Vec::new());
    seeds.of_gossip();
    seeds.of_blocks();
    seeds.of_certificates();
    seeds.of_requests();
    seeds.of_disk();
    let size = 1..MOST_BYTES;
    seeds.0.retain(|(_, bytes)| size.contains(&bytes.len()));
    seeds.0
}

struct Seeds(Vec<(&'static str, Vec<u8>)>);

impl Seeds {
    fn add(&mut self, targets: &[&'static str], bytes: &[u8]) {
        let named = targets.iter().map(|target| (*target, bytes.to_vec()));
        self.0.extend(named);
    }

    fn of_gossip(&mut self) {
        for message in files("gossip/messages") {
            self.add(&["gossip_message"], &message);
        }
        let identity = SerializedIdentity {
            mspid: "Org1MSP".to_owned(),
            id_bytes: Bytes::from_static(b"certificate"),
        };
        let identity = Bytes::from(identity.encode_to_vec());
        let pki_id = selvedge_protos::identity::pki_id(&identity).expect("an identity");
        let hash = selvedge_protos::sha256(b"certificate");
        let handshake = GossipMessage {
            content: Some(Content::Conn(ConnEstablish {
                pki_id: Bytes::copy_from_slice(&pki_id),
                identity,
                tls_cert_hash: Bytes::copy_from_slice(&hash),
                probe: false,
            })),
            ..GossipMessage::default()
        };
        let envelope = selvedge_protos::gossip::Envelope {
            payload: handshake.encode_to_vec().into(),
            ..Default::default()
        };
        self.add(&["handshake"], &envelope.encode_to_vec());
        // Any bytes are a script; these are those of a simple generator.
        let mut state = 1_u32;
        for length in [200, 1_000, 3_000] {
            let script: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_be_bytes()[0]
                })
                .collect();
            self.add(&["gossip_core"], &script);
        }
    }

    fn of_blocks(&mut self) {
        let folders = ["raft", "bft", "forged"].map(|net| format!("{net}/orderer-blocks"));
        for bytes in folders.iter().flat_map(|folder| files(folder)) {
            self.add(&["block", "stored_block", "genesis_block"], &bytes);
            let block = Block::decode(&bytes[..]).expect("a block");
            let response = DeliverResponse {
                r#type: Some(deliver_response::Type::Block(block.clone())),
            };
            self.add(&["deliver_response"], &response.encode_to_vec());
            for envelope in block.data.unwrap_or_default().data {
                self.of_transaction(&envelope);
            }
        }
        let status = DeliverResponse {
            r#type: Some(deliver_response::Type::Status(404)),
        };
        self.add(&["deliver_response"], &status.encode_to_vec());
        for refused in files("forged/refused") {
            self.add(&["block", "stored_block"], &refused);
        }
    }

    fn of_transaction(&mut self, bytes: &Bytes) {
        self.add(&["envelope", "transaction", "committed_transaction"], bytes);
        let opened =
            Envelope::decode(bytes.clone()).and_then(|envelope| Payload::decode(envelope.payload));
        let Ok(Payload { header, data }) = opened else {
            return;
        };
        let header = header.unwrap_or_default();
        if let Ok(header) = SignatureHeader::decode(header.signature_header.clone()) {
            self.add(&["identity"], &header.creator);
        }
        match ChannelHeader::decode(header.channel_header.clone()) {
            Ok(of_config) if of_config.r#type == 1 => self.of_config(data),
            _ => {
                // Most have nothing more in them that is well-formed.
                let _ = self.of_endorsed(&header, data);
            }
        }
    }

    fn of_endorsed(&mut self, header: &Header, data: Bytes) -> Option<()> {
        let action = Transaction::decode(data).ok()?.actions.pop()?;
        let action = ChaincodeActionPayload::decode(action.payload).ok()?;
        let proposal = Proposal {
            header: header.encode_to_vec().into(),
            payload: action.chaincode_proposal_payload,
            extension: Bytes::new(),
        };
        let signed = SignedProposal {
            proposal_bytes: proposal.encode_to_vec().into(),
            signature: Bytes::from_static(b"signature"),
        };
        self.add(&["proposal"], &signed.encode_to_vec());
        let action = action.action?;
        for endorsement in &action.endorsements {
            self.add(&["signature"], &endorsement.signature);
        }
        let response = ProposalResponsePayload::decode(action.proposal_response_payload).ok()?;
        let action = ChaincodeAction::decode(response.extension).ok()?;
        self.add(&["read_write_set"], &action.results);
        Some(())
    }

    fn of_config(&mut self, data: Bytes) {
        self.add(&["config"], &data);
        let envelope = ConfigEnvelope::decode(data).expect("a configuration");
        if let Some(update) = envelope.last_update {
            self.add(&["config"], &update.encode_to_vec());
        }
        let config = envelope.config.unwrap_or_default();
        self.add(&["config"], &config.encode_to_vec());
        self.of_group(&config.channel_group.unwrap_or_default());
    }

    fn of_group(&mut self, group: &ConfigGroup) {
        if let Some(definition) = group.values.get("MSP") {
            self.add(&["msp_definition"], &definition.value);
        }
        for policy in group.policies.values() {
            if let Some(policy) = &policy.policy {
                self.add(&["signature_policy"], &policy.value);
            }
        }
        group.groups.values().for_each(|group| self.of_group(group));
    }

    fn of_certificates(&mut self) {
        let organizations = root().join("raft/crypto/peerOrganizations");
        let mut folders = vec![organizations];
        while let Some(folder) = folders.pop() {
            for path in entries(&folder) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "pem") {
                    let text = std::fs::read_to_string(&path).expect("a certificate");
                    let lines = text.lines().filter(|line| !line.starts_with('-'));
                    let der = STANDARD.decode(lines.collect::<String>());
                    self.add(&["certificate"], &der.expect("base64"));
                }
            }
        }
    }

    fn of_requests(&mut self) {
        let position = |at| Some(SeekPosition { r#type: Some(at) });
        let seek = SeekInfo {
            start: position(seek_position::Type::Specified(SeekSpecified { number: 7 })),
            stop: position(seek_position::Type::Newest(SeekNewest {})),
            ..SeekInfo::default()
        };
        let header = Header {
            channel_header: ChannelHeader::default().encode_to_vec().into(),
            signature_header: SignatureHeader::default().encode_to_vec().into(),
        };
        let payload = Payload {
            header: Some(header),
            data: seek.encode_to_vec().into(),
        };
        let envelope = Envelope {
            payload: payload.encode_to_vec().into(),
            signature: Bytes::from_static(b"signature"),
        };
        self.add(&["deliver_request"], &envelope.encode_to_vec());
        let request = SnapshotRequest {
            signature_header: Some(SignatureHeader::default()),
            channel_id: "mychannel".to_owned(),
            block_number: 7,
        };
        let signed = SignedSnapshotRequest {
            request: request.encode_to_vec().into(),
            signature: Bytes::from_static(b"signature"),
        };
        self.add(&["snapshot_request"], &signed.encode_to_vec());
        let policies: [&[u8]; 2] = [
            b"AND('Org1MSP.peer', OutOf(1, 'Org2MSP.member', OR('Org3MSP.admin')))",
            b"MAJORITY Endorsement",
        ];
        for text in policies {
            self.add(&["policy_text"], text);
        }
        self.add(&["log_spec"], b"info:gossip=debug:msp,policies=warn");
        self.add(
            &["log_format"],
            b"%{color}%{time:2006-01-02 15:04:05.000 MST} %{id:04x} %{level:.4s} [%{module}] %{message:10s}",
        );
        self.add(
            &["core_yaml"],
            b"peer:\n  id: p\n  gossip:\n    bootstrap: [a:1, b:2]\n    pullInterval: 4s\n",
        );
    }

    fn of_disk(&mut self) {
        let go_peer = "../crates/ledger/testdata/go-peer/blockfile_000000";
        let file = std::fs::read(root().join(go_peer)).expect(go_peer);
        // The first of its blocks, and a part of the next.
        self.add(&["block_file"], &file[..file.len().min(60_000)]);
        let collections = "raft/snapshot/confighistory.data";
        let file = std::fs::read(root().join(collections)).expect(collections);
        // Behind the key and the length of the package.
        self.add(&["definition"], &file[34..]);
        for file in files("raft/snapshot") {
            // Behind the format.
            self.add(&["snapshot"], file.get(1..).unwrap_or_default());
        }
        let info = [
            &[0x08, 7, 0x12, 32],
            &[1; 32][..],
            &[0x1a, 32],
            &[2; 32][..],
        ];
        self.add(&["snapshot_info"], &info.concat());
        for table in 0..5 {
            self.add(&["index_rows", "state_rows"], &[table, 2, b'k', 0, 1, 2, 3]);
            self.add(&["index_rows"], &[table, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        }
        let write = |key: &str| KvWrite {
            key: key.to_owned(),
            is_delete: false,
            value: Bytes::from_static(b"value"),
        };
        let writes = KvrwSet {
            writes: vec![write("a"), write("b")],
            ..KvrwSet::default()
        };
        self.add(&["private_writes"], &writes.encode_to_vec());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of recordings");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}

/// Of a folder with many files every so manieth.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let mut paths = entries(&root().join(folder));
    paths.retain(|path| path.is_file());
    let step = paths.len().div_ceil(MOST_FILES).max(1);
    let read = |path: &PathBuf| std::fs::read(path).expect("a recording");
    paths.iter().step_by(step).map(read).collect()
}
