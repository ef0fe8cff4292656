//! Who there is: identities with signatures that are cheap to make and to check, and blocks of which can be
//! told whether they are genuine.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use selvedge_gossip::crypto::{
    ChannelRef, Crypto, Identity, IdentityFacts, IdentitySource, Refusal, SignError, Signer,
};
use selvedge_gossip::event::Payload;
use selvedge_gossip::types::{ChannelId, Endpoint, OrgId, PkiId};
use selvedge_protos::msp::SerializedIdentity;
use selvedge_protos::{Message as _, sha256_of_parts};

/// The organisations; the peer under test belongs to the first.
pub const ORGS: [&str; 3] = ["Org1", "Org2", "Org3"];

/// The channels. The last is one that the peer under test never joins.
pub const CHANNELS: [&str; 3] = ["one", "two", "elsewhere"];

/// Peers beside the one under test.
pub const PEERS: u8 = 24;

/// When each run begins, in nanoseconds since 1970.
pub const BEGIN: u64 = 1_700_000_000_000_000_000;

/// The first certificate that expires does so this much later; each of the others twice as late as the one
/// before.
const FIRST_EXPIRY: u64 = 10_000_000_000;

/// The certificate of an honest peer; a reader of every channel.
const HELPER: &str = "peer to the rescue";

/// The peer under test, and behind it all others, of whom the last is honest.
pub struct Peers {
    all: Vec<Identity>,
    by_id: BTreeMap<PkiId, Identity>,
}

impl Peers {
    /// Made once.
    pub fn get() -> &'static Self {
        static PEERS: OnceLock<Peers> = OnceLock::new();
        PEERS.get_or_init(Self::new)
    }

    fn new() -> Self {
        let me = identity(ORGS[0], "me");
        let others = (0..PEERS).map(|number| {
            let org = ORGS[usize::from(number) % ORGS.len()];
            let end = match PEERS - number {
                left @ 1..=6 => format!(" until {}", BEGIN + (FIRST_EXPIRY << left)),
                _ => String::new(),
            };
            identity(org, &format!("peer{number}{end}"))
        });
        let helper = identity(ORGS[0], HELPER);
        let all: Vec<_> = [me].into_iter().chain(others).chain([helper]).collect();
        let by_id = all.iter().map(|peer| (peer.pki_id(), peer.clone()));
        Self {
            by_id: by_id.collect(),
            all,
        }
    }

    pub fn me(&self) -> &Identity {
        &self.all[0]
    }

    /// One of the others.
    pub fn other(&self, number: u8) -> &Identity {
        &self.all[1 + usize::from(number % PEERS)]
    }

    /// The honest one.
    pub fn helper(&self) -> &Identity {
        &self.all[1 + usize::from(PEERS)]
    }

    pub fn org(&self, peer: &PkiId) -> &OrgId {
        self.by_id[peer].org()
    }
}

impl IdentitySource for Peers {
    fn identity(&self, pki_id: &PkiId) -> Option<Identity> {
        self.by_id.get(pki_id).cloned()
    }
}

fn identity(org: &str, certificate: &str) -> Identity {
    let serialized = SerializedIdentity {
        mspid: org.to_owned(),
        id_bytes: Bytes::copy_from_slice(certificate.as_bytes()),
    };
    Identity::check(&serialized.encode_to_vec().into(), &Hashes).expect("an identity of ours")
}

/// Where a peer listens, for its organisation and for others. Every fifth is not known to others.
pub fn endpoints(number: u8) -> (Endpoint, Endpoint) {
    let number = number % PEERS;
    let external = match number % 5 {
        0 => String::new(),
        _ => format!("peer{number}:7051"),
    };
    (
        Endpoint::new(format!("peer{number}.internal:7051")),
        Endpoint::new(external),
    )
}

/// A signature is the hash of identity and message. An identity is valid if its organisation is one of ours
/// and its certificate begins like a peer's; it may say when it ends.
pub struct Hashes;

fn signature(serialized: &[u8], message: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&sha256_of_parts([serialized, message]))
}

impl Crypto for Hashes {
    fn validate(&self, serialized: &Bytes) -> Result<IdentityFacts, Refusal> {
        let refusal = |reason: &str| Refusal(reason.to_owned());
        let identity = SerializedIdentity::decode(serialized.clone())
            .map_err(|error| refusal(&error.to_string()))?;
        let certificate = std::str::from_utf8(&identity.id_bytes).ok();
        let certificate = certificate.filter(|text| text.starts_with("peer") || *text == "me");
        let certificate = certificate.ok_or_else(|| refusal("no certificate"))?;
        if !ORGS.contains(&identity.mspid.as_str()) {
            return Err(refusal("an unknown organisation"));
        }
        let end = certificate.split_once(" until ");
        Ok(IdentityFacts {
            org: OrgId::new(identity.mspid),
            expires_at: end.and_then(|(_, nanos)| nanos.parse().ok()),
        })
    }

    fn verify(&self, identity: &Identity, message: &[u8], found: &[u8]) -> Result<(), Refusal> {
        if signature(identity.serialized(), message) == found {
            Ok(())
        } else {
            Err(Refusal("a wrong signature".to_owned()))
        }
    }

    fn check_reader(&self, peer: &Identity, channel: ChannelRef<'_>) -> Result<(), Refusal> {
        // Some peer of each organisation is no reader of the second channel.
        let second = ChannelId::from(CHANNELS[1]);
        let is_second = match channel {
            ChannelRef::Name(name) => *name == second,
            ChannelRef::Mac(mac) => *mac == second.mac(&peer.pki_id()),
        };
        match is_second
            && peer
                .pki_id()
                .as_bytes()
                .first()
                .is_some_and(|byte| *byte < 40)
        {
            true => Err(Refusal("no reader".to_owned())),
            false => Ok(()),
        }
    }
}

/// Signs for an identity.
pub struct Key(pub Identity);

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        Ok(signature(self.0.serialized(), message))
    }
}

/// The signer of the peer under test.
pub fn my_key() -> Arc<dyn Signer> {
    Arc::new(Key(Peers::get().me().clone()))
}

/// A block that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestBlock {
    number: u64,
    bytes: Bytes,
}

impl TestBlock {
    /// The one genuine block of this number.
    pub fn genuine(channel: &ChannelId, number: u64) -> Self {
        let text = format!("block {number} of {channel}");
        Self {
            number,
            bytes: text.into(),
        }
    }

    /// Verification: `None` if the bytes are not that block.
    pub fn verify(channel: &ChannelId, number: u64, bytes: &Bytes) -> Option<Self> {
        let genuine = Self::genuine(channel, number);
        (genuine.bytes == *bytes).then_some(genuine)
    }
}

/// What a liar sends as a block.
pub fn forged_block(number: u64) -> Bytes {
    format!("forged {number}").into()
}

impl Payload for TestBlock {
    fn number(&self) -> u64 {
        self.number
    }

    fn encoded(&self) -> &Bytes {
        &self.bytes
    }
}
