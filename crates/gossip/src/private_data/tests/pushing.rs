//! What is pushed, and acknowledged.

use super::*;

#[test]
fn a_push_goes_to_eligible_peers_one_of_each_organisation_first() {
    for _ in 0..20 {
        let mut stage = Stage::new();
        let (to, _) = stage.push(Arc::new(Everybody), 2, 0);
        let orgs: BTreeSet<OrgId> = to
            .iter()
            .map(|to| stage.gossip.identities().org(to).unwrap().clone())
            .collect();
        assert_eq!((to.len(), orgs.len()), (2, 2));
        let (to, _) = stage.push(Arc::new(Everybody), 9, 0);
        assert_eq!(to.into_iter().collect::<BTreeSet<_>>().len(), 5);
        let (to, _) = stage.push(these(&["elm", "stranger"]), 9, 0);
        assert_eq!(to, [id("elm")]);
        let own = Organisations(BTreeSet::from([OrgId::from("Org2MSP")]));
        let (to, _) = stage.push(Arc::new(own), 9, 0);
        assert_eq!(
            to.into_iter().collect::<BTreeSet<_>>(),
            BTreeSet::from([id("oak"), id("yew")])
        );
    }
}

#[test]
fn a_push_has_succeeded_when_enough_peers_have_acknowledged_it() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 4, 2);
    stage.ack(to[0], nonce, "");
    assert!(stage.acknowledged.is_empty());
    stage.ack(to[1], nonce, "no room");
    assert!(stage.acknowledged.is_empty());
    stage.ack(to[2], nonce, "");
    assert_eq!(stage.acknowledged, [(7, Ok(()))]);
    // What comes later is neither an error nor told again.
    stage.ack(to[3], nonce, "");
    assert_eq!(stage.acknowledged.len(), 1);
    assert_eq!(stage.drops(DropReason::UnknownNonce), 0);
    let counted = stage.gossip.counters().private_data;
    assert_eq!(
        (counted.pushed, counted.acknowledged, counted.refused),
        (4, 3, 1)
    );
}

#[test]
fn a_push_that_nobody_must_acknowledge_succeeds_at_once() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 3, 0);
    assert_eq!(stage.acknowledged, [(7, Ok(()))]);
    stage.ack(to[0], nonce, "");
    stage.pass(4 * SECOND);
    assert_eq!(stage.acknowledged.len(), 1);
    assert_eq!(stage.gossip.counters().private_data.unanswered, 2);
    // Nor does one that goes to nobody.
    let (to, _) = stage.push(Arc::new(Everybody), 0, 0);
    assert!(to.is_empty());
    assert_eq!(stage.acknowledged.len(), 2);
}

#[test]
fn a_push_fails_as_soon_as_too_few_can_acknowledge_it() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 3, 2);
    stage.ack(to[0], nonce, &"x".repeat(5_000));
    stage.event(Event::Unreachable(to[1]));
    let failures = vec![
        (to[0], AckFailure::Refused("x".repeat(500))),
        (to[1], AckFailure::Unreachable),
    ];
    let error = SendError::TooFewAcks {
        required: 2,
        acknowledged: 0,
        failures,
    };
    assert_eq!(stage.acknowledged, [(7, Err(error))]);

    let mut stage = Stage::new();
    let (to, nonce) = stage.push(Arc::new(Everybody), 2, 2);
    stage.ack(to[0], nonce, "");
    stage.pass(3 * SECOND - Duration::from_millis(1));
    assert!(stage.acknowledged.is_empty());
    stage.pass(SECOND);
    let error = SendError::TooFewAcks {
        required: 2,
        acknowledged: 1,
        failures: vec![(to[1], AckFailure::TimedOut)],
    };
    assert_eq!(stage.acknowledged, [(7, Err(error))]);
    stage.ack(to[1], nonce, "");
    assert_eq!(stage.drops(DropReason::UnknownNonce), 1);
}

#[test]
fn a_push_is_not_begun_when_too_few_peers_are_known() {
    let mut stage = Stage::new();
    let (to, _) = stage.push(these(&["ash", "oak"]), 5, 3);
    assert!(to.is_empty());
    let error = SendError::TooFewPeers {
        required: 3,
        found: 2,
    };
    assert_eq!(stage.acknowledged, [(7, Err(error))]);
    // So does one that may go to fewer than must acknowledge it.
    stage.push(Arc::new(Everybody), 1, 2);
    assert!(matches!(
        stage.acknowledged[1].1,
        Err(SendError::TooFewPeers {
            required: 2,
            found: 1
        })
    ));
    stage.event(Event::SendWithAck(SendWithAck {
        id: 8,
        channel: ChannelId::from("elsewhere"),
        data: Box::new(data("writes")),
        eligible: Arc::new(Everybody),
        max_peers: 1,
        min_acks: 0,
        timeout: SECOND,
    }));
    assert!(matches!(
        stage.acknowledged[2],
        (8, Err(SendError::UnknownChannel(_)))
    ));
}

#[test]
fn acknowledgements_count_once_from_those_who_were_sent_to() {
    let mut stage = Stage::new();
    let (to, nonce) = stage.push(these(&["ash", "elm"]), 2, 2);
    stage.ack(id("fir"), nonce, "");
    stage.ack(to[0], nonce.wrapping_add(1), "");
    stage.ack(to[0], nonce, "");
    stage.ack(to[0], nonce, "");
    assert!(stage.acknowledged.is_empty());
    assert_eq!(stage.drops(DropReason::UnknownNonce), 3);
    stage.ack(to[1], nonce, "");
    assert_eq!(stage.acknowledged, [(7, Ok(()))]);
}
