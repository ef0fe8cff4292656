//! What is fetched from others.

use super::*;

#[test]
fn preferred_peers_are_asked_first_and_then_any_that_may_have_it() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![
        item(1, &["oak"], &["ash", "oak"]),
        item(2, &["oak"], &["oak"]),
        item(3, &[], &["elm"]),
        item(4, &["stranger"], &[]),
    ]);
    assert_eq!(requests.len(), 2);
    let oak = requests.iter().find(|it| it.to == id("oak")).unwrap();
    let elm = requests.iter().find(|it| it.to == id("elm")).unwrap();
    assert_eq!(oak.digests(), [digest(1), digest(2)]);
    assert_eq!(elm.digests(), [digest(3)]);
    // Oak has but one; the other is asked of ash at once, while elm takes its time.
    let next = stage.respond(oak, &[digest(2)]);
    assert_eq!(next.len(), 1);
    assert_eq!(
        (next[0].to, next[0].digests()),
        (id("ash"), &[digest(1)][..])
    );
    assert!(stage.respond(&next[0], &[]).is_empty());
    assert!(stage.fetched.is_empty());
    assert!(stage.respond(elm, &[digest(3)]).is_empty());
    let (key, fetched) = stage.fetched.pop().unwrap();
    assert_eq!(key, 9);
    let found: Vec<&PvtDataDigest> = fetched
        .elements
        .iter()
        .map(|element| element.digest.as_ref().unwrap())
        .collect();
    assert_eq!(found, [&digest(2), &digest(3)]);
    let missing: BTreeSet<u64> = fetched.missing.iter().map(|it| it.seq_in_block).collect();
    assert_eq!(missing, BTreeSet::from([1, 4]));
    assert!(fetched.purged.is_empty());
}

#[test]
fn an_element_without_payload_is_not_there() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![item(1, &[], &["ash"])]);
    let response = Box::new(RemotePvtDataResponse {
        elements: vec![PvtDataElement {
            digest: Some(digest(1)),
            payload: Vec::new(),
        }],
    });
    let nonce = requests[0].message.nonce;
    stage.message(
        "ash",
        Message::PrivateResponse(ChannelId::from(CHANNEL), nonce, response),
    );
    assert_eq!(stage.fetched[0].1.missing, [digest(1)]);
    assert_eq!(stage.drops(DropReason::Unsolicited), 0);
}

#[test]
fn a_response_counts_only_for_what_was_asked_of_that_peer() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![item(1, &["ash"], &[]), item(2, &["elm"], &[])]);
    let ash = requests.iter().find(|it| it.to == id("ash")).unwrap();
    let nonce = ash.message.nonce;
    stage.respond_as(id("elm"), nonce, &[digest(1)]);
    stage.respond_as(id("ash"), nonce.wrapping_add(1), &[digest(1)]);
    assert_eq!(stage.drops(DropReason::UnknownNonce), 2);
    // Elm was asked for the second.
    stage.respond(ash, &[digest(2), digest(8), digest(1), digest(1)]);
    assert_eq!(stage.drops(DropReason::Unsolicited), 3);
    stage.respond(ash, &[digest(1)]);
    assert_eq!(stage.drops(DropReason::UnknownNonce), 3);
    assert!(stage.fetched.is_empty());
    stage.pass(6 * SECOND);
    let fetched = &stage.fetched[0].1;
    assert_eq!(fetched.elements.len(), 1);
    assert_eq!(fetched.missing, [digest(2)]);
}

#[test]
fn a_silent_or_unreachable_peer_is_not_waited_for_long() {
    let mut stage = Stage::new();
    let requests = stage.fetch(vec![item(1, &["ash"], &["ash", "elm", "fir"])]);
    assert_eq!(requests[0].to, id("ash"));
    stage.pass(5 * SECOND - Duration::from_millis(1));
    assert!(stage.take(FrameKind::PrivateRequest).is_empty());
    stage.pass(Duration::from_millis(2));
    let second = stage.take(FrameKind::PrivateRequest);
    assert_eq!(second.len(), 1);
    stage.event(Event::Unreachable(second[0].to));
    let third = stage.take(FrameKind::PrivateRequest);
    assert_eq!(third.len(), 1);
    let asked = BTreeSet::from([requests[0].to, second[0].to, third[0].to]);
    assert_eq!(asked.len(), 3, "each once");
    stage.respond(&third[0], &[digest(1)]);
    assert_eq!(stage.fetched[0].1.elements.len(), 1);
}

#[test]
fn a_fetch_ends_in_time() {
    let mut stage = Stage::new();
    stage.event(Event::FetchPrivateData(FetchPrivateData {
        id: 9,
        channel: ChannelId::from(CHANNEL),
        items: vec![item(1, &[], &["ash", "elm", "fir", "oak"])],
        timeout: 7 * SECOND,
    }));
    stage.pass(8 * SECOND);
    assert_eq!(stage.take(FrameKind::PrivateRequest).len(), 2);
    assert_eq!(stage.fetched[0].1.missing, [digest(1)]);
    stage.pass(60 * SECOND);
    assert_eq!(stage.fetched.len(), 1);
}

#[test]
fn what_others_have_purged_is_not_asked_for() {
    let mut stage = Stage::new();
    // Yew's ledger has 50 blocks, those of the others 10.
    let purged = |number, at, eligible: &[&str]| MissingItem {
        purged_at: Some(at),
        ..item(number, &[], eligible)
    };
    let requests = stage.fetch(vec![
        purged(1, 50, &["ash", "yew"]),
        purged(2, 51, &["yew"]),
        purged(3, 50, &["ash"]),
    ]);
    let asked: usize = requests.iter().map(|request| request.digests().len()).sum();
    assert_eq!(asked, 2);
    for request in &requests {
        stage.respond(request, request.digests());
    }
    assert_eq!(stage.fetched[0].1.purged, [digest(1)]);
    assert_eq!(stage.fetched[0].1.elements.len(), 2);
}

#[test]
fn many_items_are_asked_for_in_pieces() {
    let mut stage = Stage::new();
    let items = (0..2_500).map(|number| item(number, &["ash"], &[]));
    let requests = stage.fetch(items.collect());
    let sizes: Vec<usize> = requests
        .iter()
        .map(|request| request.digests().len())
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    for request in &requests {
        stage.respond(request, request.digests());
    }
    assert_eq!(stage.fetched[0].1.elements.len(), 2_500);
}

#[test]
fn a_fetch_without_peers_or_channel_ends_at_once() {
    let mut stage = Stage::new();
    assert!(stage.fetch(vec![item(1, &["stranger"], &[])]).is_empty());
    assert_eq!(stage.fetched[0].1.missing, [digest(1)]);
    stage.event(Event::FetchPrivateData(FetchPrivateData {
        id: 10,
        channel: ChannelId::from("elsewhere"),
        items: vec![item(1, &["ash"], &[])],
        timeout: SECOND,
    }));
    assert_eq!(stage.fetched[1].0, 10);
    assert_eq!(stage.fetched[1].1.missing, [digest(1)]);
    // One that wants nothing, too.
    stage.fetch(Vec::new());
    assert_eq!(stage.fetched[2].1, Fetched::default());
}
