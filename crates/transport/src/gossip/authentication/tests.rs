use proptest::prelude::*;

use super::*;
use crate::testing::TestAuthenticator;

/// What the server has of a connection, and what the client has.
fn connection(server: &[u8], client: &[u8]) -> (TlsPeer, TlsPeer) {
    let view = |other: &[u8], own: &[u8]| TlsPeer {
        address: ([127, 0, 0, 1], 7051).into(),
        secure: true,
        certificate: Some(Bytes::copy_from_slice(other)),
        own_certificate_hash: Some(selvedge_protos::sha256(own)),
    };
    (view(client, server), view(server, client))
}

fn plain() -> TlsPeer {
    let address = ([127, 0, 0, 1], 7051).into();
    TlsPeer {
        address,
        secure: false,
        certificate: None,
        own_certificate_hash: None,
    }
}

fn peer(name: &str) -> TestAuthenticator {
    TestAuthenticator::new(name)
}

fn failure(
    author: &TestAuthenticator,
    at_server: &TlsPeer,
    at_client: &TlsPeer,
) -> HandshakeFailure {
    let message = own_message(author, at_client, false).unwrap();
    check(&peer("Org2/reader"), at_server, message)
        .err()
        .unwrap()
}

#[test]
fn a_proper_handshake_passes_with_and_without_tls() {
    let (at_server, at_client) = connection(b"server", b"client");
    for (reading, writing) in [(at_server, at_client), (plain(), plain())] {
        for probe in [false, true] {
            let message = own_message(&peer("Org1/peer0"), &writing, probe).unwrap();
            let proven = check(&peer("Org2/peer0"), &reading, message).unwrap();
            assert_eq!(proven.probe, probe);
            assert_eq!(proven.peer.organization, "Org1");
            assert_eq!(proven.peer.identity, "Org1/peer0");
            assert_eq!(
                proven.peer.pki_id,
                TestAuthenticator::pki_id_of(b"Org1/peer0")
            );
        }
    }
}

#[test]
fn each_claim_is_checked() {
    let (at_server, at_client) = connection(b"server", b"client");
    let fails = |author: &TestAuthenticator| failure(author, &at_server, &at_client);

    assert!(matches!(
        fails(&peer("stranger")),
        HandshakeFailure::Identity(_)
    ));
    assert_eq!(fails(&peer("Org2/reader")), HandshakeFailure::Own);
    let forger = TestAuthenticator {
        forge: true,
        ..peer("Org1/peer0")
    };
    assert!(matches!(fails(&forger), HandshakeFailure::Signature(_)));
    let thief = TestAuthenticator {
        claimed_pki_id: Some([7; 32]),
        ..peer("Org1/peer0")
    };
    assert!(matches!(fails(&thief), HandshakeFailure::PkiId { .. }));
}

#[test]
fn the_message_must_come_over_the_connection_that_it_names() {
    let (at_server, at_client) = connection(b"server", b"client");
    let (via_relay, _) = connection(b"server", b"relay");
    let author = peer("Org1/peer0");
    let relayed = failure(&author, &via_relay, &at_client);
    assert!(
        matches!(relayed, HandshakeFailure::TlsHash { .. }),
        "{relayed}"
    );
    let none = failure(&author, &at_server, &plain());
    assert!(matches!(none, HandshakeFailure::TlsHash { .. }), "{none}");
    let anonymous = TlsPeer {
        certificate: None,
        ..at_server.clone()
    };
    assert_eq!(
        failure(&author, &anonymous, &at_client),
        HandshakeFailure::NoTlsCertificate
    );
    let bare = TlsPeer {
        own_certificate_hash: None,
        ..at_client
    };
    let refused = own_message(&author, &bare, false);
    assert_eq!(refused.unwrap_err(), HandshakeFailure::NoOwnTlsCertificate);
}

#[test]
fn other_messages_and_rubbish_are_refused() {
    let read = |frame: Bytes| check(&peer("Org2/reader"), &plain(), frame).err().unwrap();
    assert_eq!(read(Bytes::new()), HandshakeFailure::WrongType);
    assert!(matches!(
        read(Bytes::from_static(b"\xff\xff")),
        HandshakeFailure::Malformed(_)
    ));
    let payload = Bytes::from_static(b"\x0a\xff");
    let envelope = Envelope {
        payload,
        ..Envelope::default()
    };
    let frame = Bytes::from(envelope.encode_to_vec());
    assert!(matches!(read(frame), HandshakeFailure::Malformed(_)));
    let message = own_message(&peer("Org1/peer0"), &plain(), false).unwrap();
    for end in 0..message.len() {
        let _ = read(message.slice(..end));
    }
}

proptest! {
    #[test]
    fn nothing_that_a_stranger_sends_passes_or_panics(
        frame in proptest::collection::vec(any::<u8>(), 0..400),
        place in any::<proptest::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let reader = peer("Org2/reader");
        prop_assert!(check(&reader, &plain(), frame.into()).is_err());
        let genuine = own_message(&peer("Org1/peer0"), &plain(), false).unwrap();
        let mut damaged = genuine.to_vec();
        damaged[place.index(genuine.len())] ^= flip;
        // Damage outside of what is signed may be ignored, but must not change what is proven.
        if let Ok(proven) = check(&reader, &plain(), damaged.into()) {
            prop_assert_eq!(proven.peer.identity, "Org1/peer0");
        }
    }
}
