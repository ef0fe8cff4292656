//! Whom gossip believes: members of the own organisation, and of those in the peer's channels.

use bytes::Bytes;
use selvedge_gossip::crypto::{Crypto, Identity};
use selvedge_msp::SigningIdentity;
use selvedge_peer::channel::{ChannelEvent, Channels};
use selvedge_peer::gossip::{IdentityTable, PeerCrypto};
use selvedge_protos::identity::pki_id;
use selvedge_transport::gossip::PeerAuthenticator;
use tokio::sync::mpsc;

use crate::support::{CHANNEL, Chain, Network, commit_by_queue, join, remove_organization};

struct Bench {
    network: Network,
    channels: Channels,
    crypto: PeerCrypto,
    _events: mpsc::Receiver<ChannelEvent>,
}

impl Bench {
    fn new() -> Self {
        let network = Network::new();
        let (channels, events) = network.channels("data");
        let crypto = PeerCrypto::new(
            network.msp(1),
            network.peer(1),
            channels.clone(),
            IdentityTable::default(),
        );
        Self {
            crypto: crypto.unwrap(),
            network,
            channels,
            _events: events,
        }
    }

    async fn joined() -> Self {
        let bench = Self::new();
        let genesis = bench.network.genesis_bytes();
        join(&bench.channels, genesis).await.unwrap();
        bench
    }

    /// The organisation of an identity, or why it is refused.
    fn org(&self, identity: &SigningIdentity) -> Result<String, String> {
        let facts = self.crypto.validate(identity.serialized());
        facts
            .map(|facts| facts.org.to_string())
            .map_err(|refusal| refusal.0)
    }

    fn believes(&self, identity: &SigningIdentity, message: &[u8], signature: &[u8]) -> bool {
        let serialized = identity.serialized();
        PeerAuthenticator::verify(&self.crypto, serialized, message, signature).is_ok()
    }
}

#[tokio::test]
async fn channels_make_other_organisations_known() {
    let bench = Bench::new();
    let [own, neighbour, stranger] = [1, 2, 3].map(|org| bench.network.peer(org));
    assert_eq!(bench.org(&own).unwrap(), "Org1MSP");
    assert!(bench.org(&neighbour).is_err(), "no channel knows it yet");
    let genesis = bench.network.genesis_bytes();
    join(&bench.channels, genesis).await.unwrap();
    assert_eq!(bench.org(&neighbour).unwrap(), "Org2MSP");
    assert!(bench.org(&stranger).is_err());

    // Ordering nodes are members of the channel's MSPs too, as in Fabric.
    assert_eq!(bench.org(&bench.network.orderer()).unwrap(), "OrdererMSP");

    let channel = bench.channels.get(CHANNEL).unwrap();
    let mut chain = Chain::new(&bench.network);
    let removal = chain.push_config(|config| remove_organization(config, "Org2"));
    commit_by_queue(&channel, &[removal]).await;
    assert!(bench.org(&neighbour).is_err(), "the channel has let it go");
    assert!(bench.org(&own).is_ok());
}

#[tokio::test]
async fn expired_and_unreadable_identities_are_refused() {
    let bench = Bench::joined().await;
    for org in [1, 2] {
        let refusal = bench.org(&bench.network.expired(org, "peer")).unwrap_err();
        assert_eq!(
            refusal,
            format!("the certificate of Org{org}MSP has expired")
        );
    }
    for junk in [&b""[..], b"\xff\xff", b"\x0a\x07Org1MSP\x12\x04junk"] {
        let junk = Bytes::from_static(junk);
        assert!(bench.crypto.validate(&junk).is_err());
        assert!(bench.crypto.identify(&junk).is_err());
    }
}

#[tokio::test]
async fn signatures_are_checked_by_the_rules_of_the_signers_organisation() {
    let bench = Bench::joined().await;
    let message = b"alive";
    for org in [1, 2] {
        let peer = bench.network.peer(org);
        let signature = peer.sign(message).unwrap();
        assert!(bench.believes(&peer, message, &signature));
        assert!(!bench.believes(&peer, b"dead", &signature));
        assert!(!bench.believes(&peer, message, b""));
        let other = bench.network.user(org).sign(message).unwrap();
        assert!(!bench.believes(&peer, message, &other));
    }
    // Known to the channel, but not among its readers: nothing that it says counts.
    let orderer = bench.network.orderer();
    let signature = orderer.sign(message).unwrap();
    assert!(!bench.believes(&orderer, message, &signature));
    let stranger = bench.network.peer(3);
    let signature = stranger.sign(message).unwrap();
    assert!(!bench.believes(&stranger, message, &signature));
}

#[tokio::test]
async fn the_peer_shows_its_own_identity() {
    let bench = Bench::new();
    let own = bench.network.peer(1);
    assert_eq!(&bench.crypto.own_identity(), own.serialized());
    assert_eq!(bench.crypto.own_pki_id(), pki_id(own.serialized()).unwrap());
    let signature = bench.crypto.sign(b"hello").unwrap();
    assert!(bench.believes(&own, b"hello", &signature));
    let identity = Identity::check(own.serialized(), &bench.crypto).unwrap();
    assert_eq!(identity.pki_id().0, bench.crypto.own_pki_id());
    assert_eq!(bench.crypto.organization_of(&[7; 32]), None);
}
