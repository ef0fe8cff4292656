//! Identities, certificates, revocation lists and signatures.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use selvedge_msp::{Identity, Msp, MspManager, MspVersion};
use selvedge_protos::Message;
use selvedge_protos::msp::{FabricMspConfig, MspConfig, SerializedIdentity};

use crate::channel;

const VERSIONS: &[MspVersion] = &[MspVersion::V1_0, MspVersion::V1_4_3, MspVersion::V3_0];

/// A serialized identity, held against a channel's MSPs.
pub fn identity(bytes: &[u8]) {
    let Some(config) = channel() else { return };
    let msps: &MspManager = config.msps();
    if let Ok(identity) = msps.deserialize(bytes) {
        let _ = msps.validate(&identity);
        let _ = identity.verify(bytes, bytes);
    }
    let _ = selvedge_protos::identity::pki_id(bytes);
}

/// A certificate: of somebody, of an authority, of an administrator; and as a list of revoked ones.
pub fn certificate(bytes: &[u8]) {
    let Some(config) = channel() else { return };
    let serialized = SerializedIdentity {
        mspid: "Org1MSP".to_owned(),
        id_bytes: pem("CERTIFICATE", bytes),
    };
    identity(&serialized.encode_to_vec());
    let Some(msp) = config.msps().msp("Org1MSP") else {
        return;
    };
    let Ok(known) = FabricMspConfig::decode(msp.definition().clone()) else {
        return;
    };
    let certificate = || pem("CERTIFICATE", bytes);
    for changed in [
        |msp: &mut FabricMspConfig, it: Bytes| msp.root_certs.push(it),
        |msp: &mut FabricMspConfig, it: Bytes| msp.intermediate_certs.push(it),
        |msp: &mut FabricMspConfig, it: Bytes| msp.admins.push(it),
        |msp: &mut FabricMspConfig, it: Bytes| msp.tls_root_certs.push(it),
    ] {
        let mut definition = known.clone();
        changed(&mut definition, certificate());
        set_up(&definition, &[MspVersion::V3_0]);
    }
    let mut definition = known;
    definition.revocation_list.push(pem("X509 CRL", bytes));
    set_up(&definition, &[MspVersion::V3_0]);
}

/// The definition of an MSP, as a channel's configuration has it.
pub fn msp_definition(bytes: &[u8]) {
    if let Ok(config) = MspConfig::decode(bytes) {
        for version in VERSIONS {
            let _ = Msp::from_config(&config, *version);
        }
    }
    if let Ok(definition) = FabricMspConfig::decode(bytes) {
        set_up(&definition, VERSIONS);
    }
}

/// A signature by a peer that we know, or what is said to be one.
pub fn signature(bytes: &[u8]) {
    if let Some(peer) = peer() {
        // Nobody here has its key.
        assert!(peer.verify(b"what it never signed", bytes).is_err());
    }
}

fn set_up(definition: &FabricMspConfig, versions: &[MspVersion]) {
    let config = MspConfig {
        r#type: 0,
        config: definition.encode_to_vec().into(),
    };
    for version in versions {
        let Ok(msp) = Msp::from_config(&config, *version) else {
            continue;
        };
        if let Some(peer) = peer()
            && let Ok(identity) = msp.deserialize(peer.serialized())
        {
            let _ = msp.validate(&identity);
        }
    }
}

/// A peer of the recorded channel.
fn peer() -> Option<&'static Identity> {
    const CERTIFICATE: &[u8] = include_bytes!(
        "../../testdata/raft/crypto/peerOrganizations/org1.example.com/peers/peer0.org1.example.com/msp/signcerts/peer0.org1.example.com-cert.pem"
    );
    static PEER: OnceLock<Option<Identity>> = OnceLock::new();
    let read = || {
        let serialized = SerializedIdentity {
            mspid: "Org1MSP".to_owned(),
            id_bytes: Bytes::from_static(CERTIFICATE),
        };
        channel()?
            .msps()
            .deserialize(&serialized.encode_to_vec())
            .ok()
    };
    PEER.get_or_init(read).as_ref()
}

fn pem(label: &str, der: &[u8]) -> Bytes {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into()
}
