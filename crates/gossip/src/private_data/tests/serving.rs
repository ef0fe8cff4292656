//! What others push and ask for.

use super::*;

#[test]
fn what_is_pushed_to_us_is_acknowledged_when_it_is_stored() {
    let mut stage = Stage::new();
    for (nonce, stored) in [(5, Ok(())), (6, Err("no room".to_owned()))] {
        let push = Message::PrivateData(ChannelId::from(CHANNEL), nonce, Box::new(data("writes")));
        stage.message("oak", push);
        assert!(stage.take(FrameKind::Ack).is_empty());
        let (to, of) = stage.to_store.pop().unwrap();
        assert_eq!((to, of), (id("oak"), nonce));
        let error = stored.clone().err().unwrap_or_default();
        stage.event(Event::PrivateDataStored { to, nonce, stored });
        let acks = stage.take(FrameKind::Ack);
        assert_eq!((acks.len(), acks[0].to), (1, id("oak")));
        let content = Content::Ack(Acknowledgement { error });
        let expected = gossip_message(Tag::Undefined, None, nonce, content);
        assert_eq!(acks[0].message, expected);
    }
    // Without a write-set there is nothing to be stored.
    let channel = || ChannelId::from(CHANNEL);
    let empty = Box::new(PrivateDataMessage { payload: None });
    stage.message("oak", Message::PrivateData(channel(), 7, empty));
    stage.message(
        "oak",
        Message::PrivateData(channel(), 8, Box::new(data(""))),
    );
    assert!(stage.to_store.is_empty());
    assert_eq!(stage.drops(DropReason::Malformed), 2);
}

#[test]
fn strangers_push_and_get_nothing() {
    let mut stage = Stage::new();
    let identity = peer("stranger").identity;
    stage.event(Event::Connected {
        identity,
        endpoint: None,
    });
    let channel = ChannelId::from(CHANNEL);
    let elsewhere = ChannelId::from("elsewhere");
    let request = || {
        Box::new(RemotePvtDataRequest {
            digests: vec![digest(1)],
        })
    };
    let push = Message::PrivateData(channel.clone(), 5, Box::new(data("writes")));
    stage.message("stranger", push);
    stage.message(
        "stranger",
        Message::PrivateRequest(channel.clone(), 6, request()),
    );
    stage.message(
        "stranger",
        Message::PrivateResponse(channel.clone(), 6, Box::default()),
    );
    assert_eq!(stage.drops(DropReason::ForeignOrg), 3);
    stage.message("oak", Message::PrivateRequest(elsewhere, 6, request()));
    assert_eq!(stage.drops(DropReason::UnknownChannel), 1);
    // Of a channel that we have left.
    stage.event(Event::ChannelLeft(channel.clone()));
    stage.message("oak", Message::PrivateRequest(channel, 6, request()));
    assert_eq!(stage.drops(DropReason::UnknownChannel), 2);
    assert!(stage.to_store.is_empty() && stage.to_read.is_empty());
}

#[test]
fn a_flood_of_pushes_and_requests_is_bounded() {
    let mut stage = Stage::new();
    for nonce in 0..500 {
        let channel = ChannelId::from(CHANNEL);
        let push = Message::PrivateData(channel.clone(), nonce, Box::new(data("writes")));
        stage.message("oak", push);
        stage.message(
            "oak",
            Message::PrivateRequest(channel, nonce, Box::default()),
        );
    }
    assert_eq!(stage.to_store.len(), MAX_STORES_OF_A_PEER);
    assert_eq!(stage.to_read.len(), MAX_READS_OF_A_PEER);
    assert_eq!(stage.drops(DropReason::PrivateDataFull), 1_000 - 120);
    // Another peer is served all the same, and so is this one when something is done.
    let channel = ChannelId::from(CHANNEL);
    let request = || Message::PrivateRequest(ChannelId::from(CHANNEL), 1, Box::default());
    stage.message("ash", request());
    assert_eq!(stage.to_read.len(), MAX_READS_OF_A_PEER + 1);
    stage.event(Event::PrivateDataRead {
        channel,
        to: id("oak"),
        nonce: 3,
        elements: Vec::new(),
    });
    assert_eq!(stage.take(FrameKind::PrivateResponse).len(), 1);
    stage.message("oak", request());
    assert_eq!(stage.to_read.len(), MAX_READS_OF_A_PEER + 2);
}

#[test]
fn a_response_is_cut_before_it_is_too_large() {
    let mut stage = Stage::new();
    let channel = ChannelId::from(CHANNEL);
    stage.message(
        "oak",
        Message::PrivateRequest(channel.clone(), 1, Box::default()),
    );
    let half = Bytes::from(vec![0; MAX_RESPONSE_BYTES / 2]);
    let element = |number, payload: &Bytes| PvtDataElement {
        digest: Some(digest(number)),
        payload: vec![payload.clone()],
    };
    let elements = vec![
        element(1, &half),
        element(2, &half),
        element(3, &Bytes::from_static(b"small")),
    ];
    stage.event(Event::PrivateDataRead {
        channel,
        to: id("oak"),
        nonce: 1,
        elements,
    });
    let sent = stage.take(FrameKind::PrivateResponse);
    let Some(Content::PrivateRes(response)) = &sent[0].message.content else {
        panic!("{:?}", sent[0].kind);
    };
    let numbers = response
        .elements
        .iter()
        .map(|it| it.digest.as_ref().unwrap().seq_in_block);
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 3]);
}

/// What a peer says is, apart from nonces that it draws itself, what Go peers said in a recorded network.
#[test]
fn messages_are_built_as_they_were_recorded() {
    let mut seen = BTreeSet::new();
    for message in recorded() {
        let name = std::str::from_utf8(&message.channel).unwrap().to_owned();
        let nonce = message.nonce;
        match message.content.clone().unwrap() {
            Content::PrivateData(data) => {
                let mut stage = Stage::in_channel(&name);
                stage.event(Event::SendWithAck(SendWithAck {
                    id: 1,
                    channel: ChannelId::from(name.as_str()),
                    data: Box::new(data),
                    eligible: Arc::new(Everybody),
                    max_peers: 1,
                    min_acks: 1,
                    timeout: SECOND,
                }));
                let mut sent = stage.take(FrameKind::PrivateData).pop().unwrap().message;
                sent.nonce = nonce;
                assert_eq!(sent, message);
                seen.insert("push");
            }
            Content::Ack(ack) => {
                let mut stage = Stage::new();
                let push =
                    Message::PrivateData(ChannelId::from(CHANNEL), nonce, Box::new(data("writes")));
                stage.message("oak", push);
                assert!(ack.error.is_empty());
                stage.event(Event::PrivateDataStored {
                    to: id("oak"),
                    nonce,
                    stored: Ok(()),
                });
                assert_eq!(stage.take(FrameKind::Ack).pop().unwrap().message, message);
                seen.insert("ack");
            }
            Content::PrivateReq(request) => {
                let mut stage = Stage::in_channel(&name);
                let items = request.digests.iter().map(|digest| MissingItem {
                    digest: digest.clone(),
                    ..item(0, &["ash"], &[])
                });
                stage.event(Event::FetchPrivateData(FetchPrivateData {
                    id: 1,
                    channel: ChannelId::from(name.as_str()),
                    items: items.collect(),
                    timeout: SECOND,
                }));
                let mut sent = stage.take(FrameKind::PrivateRequest).pop().unwrap().message;
                sent.nonce = nonce;
                assert_eq!(sent, message);
                seen.insert("request");
            }
            Content::PrivateRes(response) => {
                let mut stage = Stage::in_channel(&name);
                let channel = ChannelId::from(name.as_str());
                let request = Message::PrivateRequest(channel.clone(), nonce, Box::default());
                stage.message("oak", request);
                stage.event(Event::PrivateDataRead {
                    channel,
                    to: id("oak"),
                    nonce,
                    elements: response.elements,
                });
                let sent = stage.take(FrameKind::PrivateResponse).pop().unwrap();
                assert_eq!(sent.message, message);
                seen.insert("response");
            }
            _ => {}
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn nothing_is_kept_of_what_is_over() {
    let mut stage = Stage::new();
    assert_eq!(stage.gossip.private_data_mut().next_deadline(), None);
    stage.push(Arc::new(Everybody), 3, 1);
    stage.fetch(vec![item(1, &[], &["ash", "elm"])]);
    assert_eq!(stage.gossip.private_data_mut().pushes.len(), 1);
    assert_eq!(stage.gossip.private_data_mut().fetches.len(), (1, 1));
    stage.pass(11 * SECOND);
    assert_eq!(stage.gossip.private_data_mut().pushes.len(), 0);
    assert_eq!(stage.gossip.private_data_mut().fetches.len(), (0, 0));
    assert_eq!(stage.gossip.private_data_mut().next_deadline(), None);
}
