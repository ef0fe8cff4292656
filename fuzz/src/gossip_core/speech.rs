//! What other peers say: whole messages, sensible or not, answers to what they were asked, honest or not,
//! and frames that were damaged.

use bytes::Bytes;
use selvedge_gossip::crypto::Identity;
use selvedge_gossip::event::Payload as _;
use selvedge_gossip::extension;
use selvedge_gossip::message::{Envelope, gossip_message};
use selvedge_gossip::types::ChannelId;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    self, Acknowledgement, AliveMessage, ConnEstablish, DataDigest, DataMessage, DataRequest,
    DataUpdate, Empty, GossipHello, GossipMessage, LeadershipMessage, Member, MembershipRequest,
    MembershipResponse, Payload, PeerIdentity, PeerTime, PrivateDataMessage, PrivatePayload,
    Properties, PvtDataDigest, PvtDataElement, RemotePvtDataRequest, RemotePvtDataResponse,
    RemoteStateRequest, RemoteStateResponse, StateInfo, StateInfoPullRequest, StateInfoSnapshot,
};

use super::peers::{Key, PEERS, Peers, TestBlock, endpoints, forged_block};
use super::script::Script;

/// What a pull is about, as it stands in messages.
const BLOCKS: i32 = gossip::PullMsgType::BlockMsg as i32;
const IDENTITIES: i32 = gossip::PullMsgType::IdentityMsg as i32;

/// What the speaker knows of the peer under test.
pub struct Known<'a> {
    /// The channel that is spoken of.
    pub channel: &'a ChannelId,
    /// The next block that the peer lacks.
    pub next: u64,
    /// Nonces that it has used.
    pub nonces: &'a [u64],
}

/// Whatever `speaker` may say.
pub fn anything(script: &mut Script<'_>, speaker: u8, known: &Known<'_>) -> Envelope {
    let kind = script.byte() % 24;
    let channel = known.channel;
    let nonce = nonce(script, known);
    let about = match script.once_in(3) {
        true => script.byte(),
        false => speaker,
    };
    let (tag, named, content) = match kind {
        0 | 1 => return alive(script, about),
        2 | 3 => return state_info(script, about, known),
        4 | 5 => {
            let data = block(script, known);
            let content = Content::DataMsg(DataMessage {
                payload: Some(data),
            });
            (Tag::ChanAndOrg, Some(channel), content)
        }
        6 => {
            let request = MembershipRequest {
                self_information: Some(alive(script, about).proto().clone()),
                known: vec![Bytes::copy_from_slice(script.bytes(4))],
            };
            (Tag::Empty, None, Content::MemReq(request))
        }
        7 => (Tag::Empty, None, membership(script)),
        8 => {
            let (tag, named, msg_type) = pulled(script, channel);
            let hello = GossipHello {
                nonce,
                metadata: Bytes::new(),
                msg_type,
            };
            (tag, named, Content::Hello(hello))
        }
        9 => {
            let (tag, named, msg_type) = pulled(script, channel);
            let content = Content::DataDig(DataDigest {
                nonce,
                digests: digests(script, msg_type, known),
                msg_type,
            });
            (tag, named, content)
        }
        10 => {
            let (tag, named, msg_type) = pulled(script, channel);
            let content = Content::DataReq(DataRequest {
                nonce,
                digests: digests(script, msg_type, known),
                msg_type,
            });
            (tag, named, content)
        }
        11 => {
            let data = (0..script.choice(4))
                .map(|_| wrapped(block(script, known), channel))
                .collect();
            let content = Content::DataUpdate(DataUpdate {
                nonce,
                data,
                msg_type: BLOCKS,
            });
            (Tag::ChanAndOrg, Some(channel), content)
        }
        12 => {
            let data = (0..script.choice(4))
                .map(|_| peer_identity(script).proto().clone())
                .collect();
            let content = Content::DataUpdate(DataUpdate {
                nonce,
                data,
                msg_type: IDENTITIES,
            });
            (Tag::Empty, None, content)
        }
        13 => {
            let author = Peers::get().other(about).pki_id();
            let channel_mac = Bytes::copy_from_slice(&channel.mac(&author));
            let request = StateInfoPullRequest { channel_mac };
            (Tag::ChanOrOrg, None, Content::StateInfoPullReq(request))
        }
        14 => {
            let elements = (0..script.choice(4))
                .map(|_| {
                    let about = script.byte();
                    state_info(script, about, known).proto().clone()
                })
                .collect();
            let snapshot = Content::StateSnapshot(StateInfoSnapshot { elements });
            (Tag::ChanOrOrg, Some(channel), snapshot)
        }
        15 | 16 => {
            let request = RemoteStateRequest {
                start_seq_num: script.near(known.next),
                end_seq_num: script.near(known.next),
            };
            (
                Tag::ChanOrOrg,
                Some(channel),
                Content::StateRequest(request),
            )
        }
        17 => {
            let payloads = (0..script.choice(5))
                .map(|_| block(script, known))
                .collect();
            let response = Content::StateResponse(RemoteStateResponse { payloads });
            (Tag::ChanOrOrg, Some(channel), response)
        }
        18 => return leadership(script, about, channel),
        19 => (Tag::ChanOnly, Some(channel), private_data(script)),
        20 => {
            let digests = (0..script.choice(5)).map(|_| digest(script)).collect();
            let request = Content::PrivateReq(RemotePvtDataRequest { digests });
            (Tag::ChanOnly, Some(channel), request)
        }
        21 => {
            let digests: Vec<_> = (0..script.choice(5)).map(|_| digest(script)).collect();
            let response = private_response(script, digests);
            (Tag::ChanOnly, Some(channel), response)
        }
        22 => (Tag::Undefined, None, acknowledgement(script)),
        _ => match script.choice(2) {
            0 => (Tag::Empty, None, Content::Empty(Empty {})),
            _ => {
                let handshake = ConnEstablish::default();
                (Tag::Empty, None, Content::Conn(handshake))
            }
        },
    };
    Envelope::unsigned(&gossip_message(tag, named, nonce, content))
}

/// A hello, and a request on what the peer under test is likely to have.
pub fn pull(script: &mut Script<'_>, known: &Known<'_>) -> [Envelope; 2] {
    let (tag, named, msg_type) = pulled(script, known.channel);
    let nonce = script.number();
    let hello = Content::Hello(GossipHello {
        nonce,
        metadata: Bytes::new(),
        msg_type,
    });
    let digests = match msg_type {
        IDENTITIES => vec![bytes_of(Peers::get().me())],
        _ => (0..8)
            .map(|behind| known.next.saturating_sub(behind).to_string().into())
            .collect(),
    };
    let request = Content::DataReq(DataRequest {
        nonce,
        digests,
        msg_type,
    });
    [hello, request].map(|content| Envelope::unsigned(&gossip_message(tag, named, nonce, content)))
}

/// An answer to what the peer under test has asked; `None` if it was no question.
pub fn answer(
    script: &mut Script<'_>,
    question: &GossipMessage,
    known: &Known<'_>,
) -> Option<Envelope> {
    let nonce = question.nonce;
    let content = match question.content.as_ref()? {
        Content::MemReq(_) => membership(script),
        Content::Hello(hello) => Content::DataDig(DataDigest {
            nonce: hello.nonce,
            digests: digests(script, hello.msg_type, known),
            msg_type: hello.msg_type,
        }),
        Content::DataReq(request) if request.msg_type == IDENTITIES => {
            let data = (0..=script.choice(3))
                .map(|_| peer_identity(script).proto().clone())
                .collect();
            Content::DataUpdate(DataUpdate {
                nonce: request.nonce,
                data,
                msg_type: IDENTITIES,
            })
        }
        Content::DataReq(request) if request.nonce == 0 => {
            let payload = Some(block(script, known));
            Content::DataMsg(DataMessage { payload })
        }
        Content::DataReq(request) => {
            let numbers = request.digests.iter().filter_map(|digest| {
                let text = std::str::from_utf8(digest).ok()?;
                text.parse().ok()
            });
            let data = numbers
                .take(16)
                .map(|number| wrapped(block_of(script, number, known.channel), known.channel))
                .collect();
            Content::DataUpdate(DataUpdate {
                nonce: request.nonce,
                data,
                msg_type: BLOCKS,
            })
        }
        Content::StateInfoPullReq(_) => {
            let elements = (0..=script.choice(3))
                .map(|_| {
                    let about = script.byte();
                    state_info(script, about, known).proto().clone()
                })
                .collect();
            let snapshot = Content::StateSnapshot(StateInfoSnapshot { elements });
            let message = gossip_message(Tag::ChanOrOrg, Some(known.channel), nonce, snapshot);
            return Some(Envelope::unsigned(&message));
        }
        Content::StateRequest(request) => {
            let asked = request.start_seq_num..=request.end_seq_num;
            let sent = script.choice(16);
            let payloads = asked
                .take(sent)
                .map(|number| block_of(script, number, known.channel))
                .collect();
            Content::StateResponse(RemoteStateResponse { payloads })
        }
        Content::PrivateData(_) => {
            let message = gossip_message(Tag::Undefined, None, nonce, acknowledgement(script));
            return Some(Envelope::unsigned(&message));
        }
        Content::PrivateReq(request) => private_response(script, request.digests.clone()),
        _ => return None,
    };
    let answer = GossipMessage {
        content: Some(content),
        ..question.clone()
    };
    Some(Envelope::unsigned(&answer))
}

/// A frame as a liar, or a broken peer, makes it of a good one. Some lies are signed by `speaker`.
pub fn damaged(script: &mut Script<'_>, good: &Envelope, speaker: u8) -> Bytes {
    let mut proto = good.proto().clone();
    let mut payload = proto.payload.to_vec();
    match script.byte() % 8 {
        0 => return Bytes::copy_from_slice(script.bytes(200)),
        1 => {
            let frame = good.frame();
            return frame.slice(..script.number_below(frame.len()));
        }
        2 => {
            proto.signature = Bytes::copy_from_slice(script.bytes(40));
            return proto.encode_to_vec().into();
        }
        3 => {
            proto.secret_envelope = Some(gossip::SecretEnvelope {
                payload: Bytes::copy_from_slice(script.bytes(20)),
                signature: Bytes::copy_from_slice(script.bytes(20)),
            });
            return proto.encode_to_vec().into();
        }
        4 => payload = script.bytes(200).to_vec(),
        5 => payload.truncate(script.number_below(payload.len())),
        _ => {
            for _ in 0..=script.choice(3) {
                let place = script.number_below(payload.len());
                if let Some(byte) = payload.get_mut(place) {
                    *byte = script.byte();
                }
            }
        }
    }
    let payload = Bytes::from(payload);
    if script.once_in(2) {
        let key = Key(Peers::get().other(speaker).clone());
        proto.signature = sign(&key, &payload);
    }
    proto.payload = payload;
    proto.encode_to_vec().into()
}

fn sign(key: &Key, payload: &[u8]) -> Bytes {
    use selvedge_gossip::crypto::Signer as _;
    key.sign(payload).expect("this key always signs")
}

fn signed(message: &GossipMessage, author: &Identity) -> Envelope {
    Envelope::signed(message, &Key(author.clone())).expect("this key always signs")
}

fn nonce(script: &mut Script<'_>, known: &Known<'_>) -> u64 {
    match script.choice(4) {
        0 | 1 => script.pick(known.nonces).copied().unwrap_or_default(),
        // So few that what is said first and what comes of it meet.
        2 => script.choice(3) as u64,
        _ => script.number(),
    }
}

fn time(script: &mut Script<'_>) -> PeerTime {
    PeerTime {
        inc_num: script.number(),
        seq_num: script.number(),
    }
}

fn alive(script: &mut Script<'_>, about: u8) -> Envelope {
    let author = Peers::get().other(about);
    let (internal, external) = endpoints(about);
    let metadata = match script.choice(4) {
        0 => Bytes::new(),
        1 => Bytes::copy_from_slice(script.bytes(8)),
        _ => extension::metadata(),
    };
    let with_identity = !script.once_in(4);
    let content = Content::AliveMsg(AliveMessage {
        membership: Some(Member {
            endpoint: external.as_str().to_owned(),
            metadata,
            pki_id: bytes_of(author),
        }),
        timestamp: Some(time(script)),
        identity: match with_identity {
            true => author.serialized().clone(),
            false => Bytes::new(),
        },
    });
    let envelope = signed(&gossip_message(Tag::Empty, None, 0, content), author);
    match script.once_in(4) {
        true => envelope,
        false => envelope
            .with_secret(internal.as_str(), &Key(author.clone()))
            .expect("this key always signs"),
    }
}

fn membership(script: &mut Script<'_>) -> Content {
    let mut some = |most| -> Vec<_> {
        (0..script.choice(most))
            .map(|_| {
                let about = script.byte();
                alive(script, about).proto().clone()
            })
            .collect()
    };
    Content::MemRes(MembershipResponse {
        alive: some(5),
        dead: some(3),
    })
}

fn peer_identity(script: &mut Script<'_>) -> Envelope {
    let author = Peers::get().other(script.byte());
    let stolen = script.once_in(8);
    let owner = match stolen {
        true => Peers::get().other(script.byte()),
        false => author,
    };
    let content = Content::PeerIdentity(PeerIdentity {
        pki_id: bytes_of(owner),
        cert: author.serialized().clone(),
        metadata: Bytes::new(),
    });
    signed(&gossip_message(Tag::Empty, None, 0, content), author)
}

fn state_info(script: &mut Script<'_>, about: u8, known: &Known<'_>) -> Envelope {
    let author = Peers::get().other(about);
    let content = Content::StateInfo(StateInfo {
        timestamp: Some(time(script)),
        pki_id: bytes_of(author),
        channel_mac: Bytes::copy_from_slice(&known.channel.mac(&author.pki_id())),
        properties: Some(Properties {
            ledger_height: script.near(known.next),
            left_channel: script.once_in(8),
            chaincodes: vec![gossip::Chaincode::default(); script.choice(3)],
        }),
    });
    signed(&gossip_message(Tag::ChanOrOrg, None, 0, content), author)
}

fn leadership(script: &mut Script<'_>, about: u8, channel: &ChannelId) -> Envelope {
    let author = Peers::get().other(about);
    let content = Content::LeadershipMsg(LeadershipMessage {
        pki_id: bytes_of(author),
        timestamp: Some(time(script)),
        is_declaration: script.once_in(2),
    });
    let message = gossip_message(Tag::ChanAndOrg, Some(channel), 0, content);
    signed(&message, author)
}

fn pulled<'a>(
    script: &mut Script<'_>,
    channel: &'a ChannelId,
) -> (Tag, Option<&'a ChannelId>, i32) {
    match script.once_in(3) {
        true => (Tag::Empty, None, IDENTITIES),
        false => (Tag::ChanAndOrg, Some(channel), BLOCKS),
    }
}

fn digests(script: &mut Script<'_>, msg_type: i32, known: &Known<'_>) -> Vec<Bytes> {
    let some = (0..script.choice(8)).map(|_| match (script.once_in(8), msg_type) {
        (true, _) => Bytes::copy_from_slice(script.bytes(40)),
        (false, IDENTITIES) => bytes_of(Peers::get().other(script.byte())),
        (false, _) => script.near(known.next).to_string().into(),
    });
    some.collect()
}

/// Most are genuine.
fn block_of(script: &mut Script<'_>, number: u64, channel: &ChannelId) -> Payload {
    let data = match script.choice(8) {
        6 => forged_block(number),
        7 => TestBlock::genuine(channel, number.wrapping_add(1))
            .encoded()
            .clone(),
        _ => TestBlock::genuine(channel, number).encoded().clone(),
    };
    Payload {
        seq_num: number,
        data,
        private_data: Vec::new(),
    }
}

fn block(script: &mut Script<'_>, known: &Known<'_>) -> Payload {
    let number = script.near(known.next);
    block_of(script, number, known.channel)
}

fn wrapped(block: Payload, channel: &ChannelId) -> gossip::Envelope {
    let content = Content::DataMsg(DataMessage {
        payload: Some(block),
    });
    let message = gossip_message(Tag::ChanAndOrg, Some(channel), 0, content);
    Envelope::unsigned(&message).proto().clone()
}

fn digest(script: &mut Script<'_>) -> PvtDataDigest {
    PvtDataDigest {
        tx_id: script.choice(8).to_string(),
        ..PvtDataDigest::default()
    }
}

fn private_data(script: &mut Script<'_>) -> Content {
    let payload = PrivatePayload {
        private_rwset: Bytes::from_static(b"writes"),
        ..PrivatePayload::default()
    };
    Content::PrivateData(PrivateDataMessage {
        payload: (!script.once_in(5)).then_some(payload),
    })
}

fn private_response(script: &mut Script<'_>, digests: Vec<PvtDataDigest>) -> Content {
    let elements = digests.into_iter().map(|digest| PvtDataElement {
        digest: (!script.once_in(8)).then_some(digest),
        payload: vec![Bytes::from_static(b"writes"); script.choice(3)],
    });
    Content::PrivateRes(RemotePvtDataResponse {
        elements: elements.collect(),
    })
}

fn acknowledgement(script: &mut Script<'_>) -> Content {
    let error = match script.once_in(3) {
        true => "no",
        false => "",
    };
    Content::Ack(Acknowledgement {
        error: error.to_owned(),
    })
}

fn bytes_of(identity: &Identity) -> Bytes {
    Bytes::copy_from_slice(identity.pki_id().as_bytes())
}

/// What an honest peer says of itself: that it is alive, and has so many blocks.
pub fn honest(channel: &ChannelId, height: u64, time: u64) -> [Envelope; 2] {
    let author = Peers::get().helper();
    let key = Key(author.clone());
    let timestamp = || {
        Some(PeerTime {
            inc_num: 1,
            seq_num: time,
        })
    };
    let alive = Content::AliveMsg(AliveMessage {
        membership: Some(Member {
            endpoint: "helper:7051".to_owned(),
            metadata: Bytes::new(),
            pki_id: bytes_of(author),
        }),
        timestamp: timestamp(),
        identity: author.serialized().clone(),
    });
    let alive = signed(&gossip_message(Tag::Empty, None, 0, alive), author);
    let alive = alive.with_secret("helper.internal:7051", &key);
    let info = Content::StateInfo(StateInfo {
        timestamp: timestamp(),
        pki_id: bytes_of(author),
        channel_mac: Bytes::copy_from_slice(&channel.mac(&author.pki_id())),
        properties: Some(Properties {
            ledger_height: height,
            ..Properties::default()
        }),
    });
    let info = signed(&gossip_message(Tag::ChanOrOrg, None, 0, info), author);
    [alive.expect("this key always signs"), info]
}

/// What an honest peer that has blocks up to `height` answers, if anything.
pub fn honest_answer(question: &GossipMessage, height: u64) -> Option<Envelope> {
    let channel = ChannelId::from(std::str::from_utf8(&question.channel).ok()?);
    let genuine = |number| Payload {
        seq_num: number,
        data: TestBlock::genuine(&channel, number).encoded().clone(),
        private_data: Vec::new(),
    };
    let content = match question.content.as_ref()? {
        Content::Hello(hello) if hello.msg_type == BLOCKS => Content::DataDig(DataDigest {
            nonce: hello.nonce,
            digests: (height.saturating_sub(10)..height)
                .map(|number| number.to_string().into())
                .collect(),
            msg_type: BLOCKS,
        }),
        Content::DataReq(request) if request.msg_type == BLOCKS => {
            let numbers = request.digests.iter().filter_map(|digest| {
                let number = std::str::from_utf8(digest).ok()?.parse().ok()?;
                (number < height).then_some(number)
            });
            Content::DataUpdate(DataUpdate {
                nonce: request.nonce,
                data: numbers
                    .map(|number| wrapped(genuine(number), &channel))
                    .collect(),
                msg_type: BLOCKS,
            })
        }
        Content::StateRequest(request) => {
            let there = request.start_seq_num..height.min(request.end_seq_num.saturating_add(1));
            let payloads = there.take(20).map(genuine).collect();
            Content::StateResponse(RemoteStateResponse { payloads })
        }
        _ => return None,
    };
    let answer = GossipMessage {
        content: Some(content),
        ..question.clone()
    };
    Some(Envelope::unsigned(&answer))
}

/// Numbers of peers, for scripts that choose one.
pub fn peer(script: &mut Script<'_>) -> u8 {
    script.byte() % PEERS
}
