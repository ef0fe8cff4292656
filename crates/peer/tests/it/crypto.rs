//! Whom gossip believes: members of the own organisation, and of those in the peer's channels.

use bytes::Bytes;
use selvedge_gossip::crypto::{ChannelRef, Crypto, Identity};
use selvedge_gossip::types::ChannelId;
use selvedge_msp::SigningIdentity;
use selvedge_peer::channel::{ChannelEvent, Channels};
use selvedge_peer::gossip::{IdentityTable, PeerCrypto};
use selvedge_protos::Message as _;
use selvedge_protos::identity::pki_id;
use selvedge_transport::gossip::PeerAuthenticator;
use tokio::sync::mpsc;

use crate::support::{
    CHANNEL, Chain, Network, commit_by_queue, join, remove_organization, set_readers,
};

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
async fn a_channel_is_for_those_whom_its_readers_policy_names() {
    let bench = Bench::joined().await;
    let channel = ChannelId::from(CHANNEL);
    let elsewhere = ChannelId::from("elsewhere");
    let reads = |identity: &SigningIdentity, channel: &ChannelId| {
        let identity = Identity::check(identity.serialized(), &bench.crypto).unwrap();
        let mac = channel.mac(&identity.pki_id());
        let by_name = bench
            .crypto
            .check_reader(&identity, ChannelRef::Name(channel));
        let by_mac = bench.crypto.check_reader(&identity, ChannelRef::Mac(&mac));
        assert_eq!(by_name.is_ok(), by_mac.is_ok());
        by_name.is_ok()
    };
    let [own, neighbour] = [1, 2].map(|org| bench.network.peer(org));
    for peer in [&own, &neighbour] {
        assert!(reads(peer, &channel));
    }
    // An ordering node is a member of one of the channel's MSPs, and no reader.
    let orderer = bench.network.orderer();
    assert!(!reads(&orderer, &channel));
    assert!(reads(&orderer, &elsewhere), "that is not ours to say");
    // The organisation stays in the channel, but may not read it any more.
    let own_channel = bench.channels.get(CHANNEL).unwrap();
    let mut chain = Chain::new(&bench.network);
    let change = chain.push_config(|config| set_readers(config, "OR('Org1MSP.member')"));
    commit_by_queue(&own_channel, &[change]).await;
    assert!(reads(&own, &channel));
    assert!(!reads(&neighbour, &channel));
}

#[tokio::test]
async fn who_may_read_one_channel_is_believed_whatever_the_others_say() {
    let bench = Bench::joined().await;
    let neighbour = bench.network.peer(2);
    let message = b"alive";
    let signature = neighbour.sign(message).unwrap();
    let mut chain = Chain::new(&bench.network);
    let change = chain.push_config(|config| set_readers(config, "OR('Org1MSP.member')"));
    commit_by_queue(&bench.channels.get(CHANNEL).unwrap(), &[change]).await;
    assert!(!bench.believes(&neighbour, message, &signature));
    // Channels are asked in the order of their names.
    let genesis = bench.network.genesis_of("zebra", 9, None);
    let genesis = genesis.encode_to_vec().into();
    join(&bench.channels, genesis).await.unwrap();
    assert_eq!(bench.channels.ids(), [CHANNEL, "zebra"]);
    assert!(bench.believes(&neighbour, message, &signature));
}

#[tokio::test]
async fn a_signature_that_was_good_counts_no_longer_than_its_signer() {
    let bench = Bench::joined().await;
    let (message, neighbour) = (b"alive", bench.network.peer(2));
    let signature = neighbour.sign(message).unwrap();
    let identity = Identity::check(neighbour.serialized(), &bench.crypto).unwrap();
    let verify = |message: &[u8], signature: &[u8]| {
        Crypto::verify(&bench.crypto, &identity, message, signature).is_ok()
    };
    for _ in 0..2 {
        assert!(verify(message, &signature));
        assert!(!verify(b"dead", &signature));
        assert!(!verify(message, &signature[1..]));
        // The boundary between signature and message counts.
        let shifted = [&signature[..], &message[..1]].concat();
        assert!(!verify(&message[1..], &shifted));
    }
    let channel = bench.channels.get(CHANNEL).unwrap();
    let mut chain = Chain::new(&bench.network);
    let removal = chain.push_config(|config| remove_organization(config, "Org2"));
    commit_by_queue(&channel, &[removal]).await;
    assert!(!verify(message, &signature));
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
