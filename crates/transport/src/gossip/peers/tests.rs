use bytes::Bytes;
use futures::FutureExt;
use selvedge_gossip::event::FrameClass;

use super::*;

const OWN: PkiId = [5; 32];
const SMALLER: PkiId = [1; 32];
const GREATER: PkiId = [9; 32];

fn options() -> GossipOptions {
    GossipOptions {
        max_peers: 2,
        ..GossipOptions::default()
    }
}

fn peers() -> Peers {
    Peers::new(OWN, options())
}

fn address(pki_id: PkiId) -> PeerAddress {
    PeerAddress {
        pki_id,
        endpoint: "localhost:1".to_owned(),
    }
}

const CONTROL: Lane = Lane {
    class: FrameClass::Control,
    channel: None,
};

fn frame() -> Bytes {
    Bytes::from_static(b"frame")
}

fn stream(id: u64, outbound: bool, since: Instant) -> (StreamRecord, StreamSignals) {
    let signals = StreamSignals::default();
    (
        StreamRecord {
            id,
            outbound,
            since,
            signals: signals.clone(),
        },
        signals,
    )
}

/// Whether the stream was told to retire; that is forgotten here.
fn is_retired(signals: &StreamSignals) -> bool {
    signals.retire.notified().now_or_never().is_some()
}

fn offer(peers: &mut Peers, pki_id: PkiId, now: Instant) -> Offered {
    peers.offer(&address(pki_id), CONTROL, frame(), now)
}

/// Which of these streams takes frames out.
async fn current(queue: &PeerQueue, streams: &[u64]) -> u64 {
    queue.push(CONTROL, frame());
    for id in streams {
        tokio::select! {
            biased;
            _ = queue.pop(*id) => return *id,
            () = std::future::ready(()) => {}
        }
    }
    panic!("none of the streams is current");
}

#[test]
fn one_dial_serves_all_frames_and_a_failure_gives_a_pause_that_doubles() {
    let (mut peers, start) = (peers(), Instant::now());
    assert!(matches!(
        offer(&mut peers, GREATER, start),
        Offered::Queued { dial: Some(_), .. }
    ));
    assert!(matches!(
        offer(&mut peers, GREATER, start),
        Offered::Queued { dial: None, .. }
    ));
    assert_eq!(peers.dial_failed(&GREATER, start), Some(2));

    let mut now = start;
    for expected in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
        let pause = Duration::from_millis(expected);
        let just_before = now + pause - Duration::from_millis(1);
        assert!(matches!(
            offer(&mut peers, GREATER, just_before),
            Offered::TooEarly
        ));
        now += pause;
        assert!(matches!(
            offer(&mut peers, GREATER, now),
            Offered::Queued { dial: Some(_), .. }
        ));
        assert_eq!(peers.dial_failed(&GREATER, now), Some(1));
    }
}

#[tokio::test]
async fn streams_made_at_once_are_both_kept_and_the_greater_dialler_gives_up() {
    for (peer, outbound_first) in [
        (SMALLER, true),
        (SMALLER, false),
        (GREATER, true),
        (GREATER, false),
    ] {
        let (mut peers, now) = (peers(), Instant::now());
        let (outbound, outbound_signals) = stream(1, true, now);
        let (inbound, inbound_signals) = stream(2, false, now);
        let order = if outbound_first {
            [outbound, inbound]
        } else {
            [inbound, outbound]
        };
        let mut queue = None;
        for record in order {
            queue = peers.install(peer, record, now);
        }
        let (queue, replaced) = queue.unwrap();
        assert!(replaced);
        assert_eq!(
            current(&queue, &[1, 2]).await,
            1,
            "each side sends on what it dialled"
        );
        assert_eq!(is_retired(&outbound_signals), peer == SMALLER);
        assert_eq!(is_retired(&inbound_signals), peer == GREATER);

        let (loser, winner) = if peer == SMALLER { (1, 2) } else { (2, 1) };
        assert!(peers.retire(&peer, loser));
        assert_eq!(current(&queue, &[1, 2]).await, winner);
        assert!(peers.is_connected(&peer));
    }
}

#[tokio::test]
async fn a_later_stream_replaces_an_old_one() {
    let (mut peers, start) = (peers(), Instant::now());
    let (old, old_signals) = stream(1, true, start);
    peers.install(SMALLER, old, start).unwrap();
    let later = start + Duration::from_secs(60);
    let (new, new_signals) = stream(2, false, later);
    let (queue, replaced) = peers.install(SMALLER, new, later).unwrap();
    assert!(replaced && is_retired(&old_signals) && !is_retired(&new_signals));
    assert_eq!(current(&queue, &[1, 2]).await, 2);
}

#[tokio::test]
async fn a_retired_stream_stays_if_the_other_one_is_lost() {
    let (mut peers, now) = (peers(), Instant::now());
    let (old, _) = stream(1, false, now);
    let (new, _) = stream(2, false, now);
    peers.install(SMALLER, old, now).unwrap();
    let (queue, _) = peers.install(SMALLER, new, now).unwrap();
    assert!(matches!(
        peers.stream_ended(&SMALLER, 2, now),
        Ended::Unnoticed
    ));
    assert!(!peers.retire(&SMALLER, 1));
    assert_eq!(current(&queue, &[1, 2]).await, 1);
}

#[test]
fn streams_of_one_peer_are_bounded() {
    let (mut peers, now) = (peers(), Instant::now());
    let mut signals = Vec::new();
    for id in 0..10 {
        let (record, signal) = stream(id, false, now);
        peers.install(SMALLER, record, now).unwrap();
        signals.push(signal);
    }
    let open = signals.iter().filter(|s| !s.close.is_cancelled()).count();
    assert_eq!(open, MAX_STREAMS);
}

#[test]
fn frames_that_wait_when_the_last_stream_ends_are_dialled_for_but_not_for_ever() {
    let (mut peers, mut now) = (peers(), Instant::now());
    offer(&mut peers, SMALLER, now);
    let mut ends = Vec::new();
    for id in 0..3 {
        let (record, _) = stream(id, true, now);
        peers.install(SMALLER, record, now).unwrap();
        now += Duration::from_millis(10);
        ends.push(peers.stream_ended(&SMALLER, id, now));
    }
    assert!(matches!(ends[0], Ended::Redial(..)), "{ends:?}");
    assert!(matches!(ends[1], Ended::Last { abandoned: 1 }), "{ends:?}");
    assert!(matches!(offer(&mut peers, SMALLER, now), Offered::TooEarly));
}

#[test]
fn peers_are_bounded_and_those_without_streams_make_room() {
    let (mut peers, now) = (peers(), Instant::now());
    offer(&mut peers, SMALLER, now);
    let (record, _) = stream(1, false, now);
    peers.install(GREATER, record, now).unwrap();
    assert!(matches!(
        offer(&mut peers, [3; 32], now),
        Offered::TooManyPeers
    ));
    let (record, _) = stream(2, false, now);
    assert!(peers.install([3; 32], record, now).is_none());

    peers.dial_failed(&SMALLER, now);
    assert!(matches!(
        offer(&mut peers, [3; 32], now),
        Offered::TooManyPeers
    ));
    let later = now + Duration::from_secs(1);
    assert!(matches!(
        offer(&mut peers, [3; 32], later),
        Offered::Queued { .. }
    ));
    assert_eq!(peers.connected(), [GREATER]);
}

#[test]
fn closing_ends_streams_and_dials_and_forgets_frames() {
    let (mut peers, now) = (peers(), Instant::now());
    let Offered::Queued {
        dial: Some((_, attempt)),
        ..
    } = offer(&mut peers, SMALLER, now)
    else {
        panic!("not dialled");
    };
    let (record, signals) = stream(1, false, now);
    peers.install(SMALLER, record, now).unwrap();
    assert_eq!(peers.close(&SMALLER), 1);
    assert!(attempt.is_cancelled() && signals.close.is_cancelled());
    let later = now + Duration::from_secs(5);
    assert!(matches!(
        peers.stream_ended(&SMALLER, 1, later),
        Ended::Last { abandoned: 0 }
    ));
    assert!(!peers.is_connected(&SMALLER));
}

#[test]
fn a_peer_is_dialled_where_it_was_last_known_to_be() {
    let (mut peers, now) = (peers(), Instant::now());
    let nowhere = PeerAddress {
        endpoint: String::new(),
        ..address(GREATER)
    };
    let offered = peers.offer(&nowhere, CONTROL, frame(), now);
    assert!(matches!(offered, Offered::NowhereToDial));
    offer(&mut peers, GREATER, now);
    peers
        .install(GREATER, stream(1, false, now).0, now)
        .unwrap();
    let offered = peers.offer(&nowhere, CONTROL, frame(), now);
    assert!(matches!(offered, Offered::Queued { dial: None, .. }));
    peers.dial_was_superfluous(&GREATER);
    let later = now + Duration::from_secs(5);
    match peers.stream_ended(&GREATER, 1, later) {
        Ended::Redial((peer, _)) => assert_eq!(peer, address(GREATER)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dial_that_a_stream_made_superfluous_is_no_failure_though_the_stream_has_ended() {
    for (ends_first, waits) in [(true, true), (true, false), (false, true)] {
        let (mut peers, now) = (peers(), Instant::now());
        offer(&mut peers, GREATER, now);
        let (queue, _) = peers
            .install(GREATER, stream(1, false, now).0, now)
            .unwrap();
        if !waits {
            queue.clear();
        }
        let later = now + Duration::from_secs(5);
        if ends_first {
            let ended = peers.stream_ended(&GREATER, 1, later);
            assert!(matches!(ended, Ended::Last { abandoned: 0 }));
        }
        let again = peers.dial_was_superfluous(&GREATER);
        assert_eq!(again.is_some(), ends_first && waits);
        let offered = offer(&mut peers, GREATER, later);
        assert!(matches!(offered, Offered::Queued { .. }), "{offered:?}");
    }
}
