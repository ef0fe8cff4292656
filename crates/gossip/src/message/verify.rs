//! From a decoded message to one that may enter the core.
//!
//! What must be signed is checked against the identity of its author: the payload, and the secret if there
//! is one. Messages between two peers are not signed; the stream says whom they are of. Whether the
//! author's organisation may say so is the core's business.
//!
//! An author whose identity is not known is refused. Its identity will come by identity pull, or in one of
//! its alive messages during the first seconds of its life.
//!
//! Difference from Go: whatever is wrong with one of many nested envelopes, it alone is left out (and reported in
//! [`Verification::refused`]), so that bad entries hide no others. Go gives up the rest of a list where an entry does
//! not parse; in StateInfo snapshots and identity updates also where one is not authentic, or its author unknown. And
//! Go has none of the bounds that are set here on what is kept, so honest Go peers repeat messages that are refused
//! here. Entries that are not even envelopes have been left out when the list was decoded (`unreadable`).
//!
//! So that no list costs seconds all the same, there is a limit to each kind of work in vain:
//! [`MAX_BAD_IDENTITIES`] that come with messages, [`MAX_BAD_SIGNATURES`], one of each author, and [`MAX_OF_AUTHOR`]
//! messages of one author. What needs no more of the work that is used up is still taken: the messages of peers that
//! are known, whatever strangers stand before them.

use std::collections::BTreeMap;

use bytes::Bytes;
use selvedge_protos::Message as _;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{
    self, AliveMessage, DataDigest, DataMessage, DataRequest, GossipMessage, LeadershipMessage,
    RemoteStateResponse, Secret, secret,
};

use super::decode::{channel_id, check_kept, kind_of, open};
use super::{
    Alive, Envelope, Leadership, Message, MessageError, PeerIdentity, Pull, PullStep, Received,
    StateInfo, StatePayload, UnverifiedBlock, Verified, gossip_message,
};
use crate::crypto::{ChannelRef, Crypto, Identity, IdentitySource, MAX_IDENTITY_SIZE};
use crate::types::{ChannelId, Endpoint, PeerTime, PkiId};

/// Messages by one author in one list that are looked at. An honest list has one.
const MAX_OF_AUTHOR: u32 = 4;

/// The longest endpoint that is believed: a host name has at most 253 characters.
const MAX_ENDPOINT: usize = 300;

/// Identities in one message that may turn out to be bad. Each is held against the MSPs of all channels. Honest
/// peers have verified what they pass on, and may at most have other revocation lists.
const MAX_BAD_IDENTITIES: usize = 64;

/// Signatures in one message that may turn out to be bad, a tenth to a fifth of a millisecond each; all others of
/// the same author are left out. Where fewer peers than that have identities, nobody's message is hidden by them.
const MAX_BAD_SIGNATURES: usize = 512;

/// Most metadata of a member. Fabric sends none.
const MAX_METADATA: usize = 4096;

/// Bytes around a block that nobody need count: keys, lengths, the channel's name.
const MAX_FRAMING: usize = 1024;

/// What verification yields.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// For the core.
    pub message: Message,
    /// Why nested envelopes were left out of it.
    pub refused: Vec<MessageError>,
}

/// Checks all signatures of a message. Costs one or two signature checks for each envelope in it that must
/// be signed, and the validation of each identity that is not known.
pub fn verify(
    mut received: Received,
    crypto: &dyn Crypto,
    known: &dyn IdentitySource,
) -> Result<Verification, MessageError> {
    let mut verifier = Verifier {
        crypto,
        known,
        refused: std::mem::take(&mut received.unreadable),
        bad_identities: 0,
        bad_signatures: 0,
        seen: BTreeMap::new(),
    };
    let message = verifier.message(received)?;
    Ok(Verification {
        message,
        refused: verifier.refused,
    })
}

/// Checks that the peer at the other end of the stream may send what concerns a channel's ledger and is not
/// signed: state transfer and private data are for readers of the channel (Fabric: gossip/state,
/// `remoteStateMsgFilter`). Blocks and pull need no check, since they are exchanged only with peers whose
/// StateInfo has passed one.
pub fn check_sender(
    message: &Message,
    from: &PkiId,
    crypto: &dyn Crypto,
    known: &dyn IdentitySource,
) -> Result<(), MessageError> {
    let (kind, channel) = match message {
        Message::StateRequest { channel, .. } => ("state request", channel),
        Message::StateResponse { channel, .. } => ("state response", channel),
        Message::PrivateData(channel, ..) => ("private data", channel),
        _ => return Ok(()),
    };
    let author = *from;
    let sender = known
        .identity(from)
        .ok_or(MessageError::UnknownAuthor { kind, author })?;
    crypto
        .check_reader(&sender, ChannelRef::Name(channel))
        .map_err(|refusal| MessageError::Refused {
            kind,
            author,
            refusal,
        })
}

struct Verifier<'a> {
    crypto: &'a dyn Crypto,
    known: &'a dyn IdentitySource,
    refused: Vec<MessageError>,
    bad_identities: usize,
    bad_signatures: usize,
    /// Messages by author, so far.
    seen: BTreeMap<PkiId, u32>,
}

impl Verifier<'_> {
    fn message(&mut self, received: Received) -> Result<Message, MessageError> {
        let kind = received.kind();
        let Received {
            envelope,
            nonce,
            channel,
            content,
            ..
        } = received;
        let named = || channel.clone().ok_or(MessageError::BadChannel { kind });
        Ok(match content {
            Content::AliveMsg(alive) => Message::Alive(self.alive(alive, envelope)?),
            Content::MemReq(request) => {
                let asker = request.self_information.ok_or(MessageError::BadField {
                    kind,
                    field: "self information",
                })?;
                let asker = Box::new(self.nested_alive(&asker)?);
                Message::MembershipRequest { nonce, asker }
            }
            Content::MemRes(response) => Message::MembershipResponse {
                nonce,
                alive: self.each(&response.alive, Self::nested_alive),
                dead: self.each(&response.dead, Self::nested_alive),
            },
            Content::DataMsg(data) => {
                let channel = named()?;
                let block = block(&channel, data, envelope)?;
                Message::Block(channel, block)
            }
            Content::Hello(hello) => match channel {
                Some(channel) => Message::BlockPull(channel, pull(hello.nonce, PullStep::Hello)),
                None => Message::IdentityPull(pull(hello.nonce, PullStep::Hello)),
            },
            Content::DataDig(DataDigest { nonce, digests, .. }) => match channel {
                Some(channel) => {
                    Message::BlockPull(channel, pull(nonce, PullStep::Digest(digests)))
                }
                None => Message::IdentityPull(pull(nonce, PullStep::Digest(digests))),
            },
            Content::DataReq(DataRequest { nonce, digests, .. }) => match channel {
                Some(channel) => {
                    Message::BlockPull(channel, pull(nonce, PullStep::Request(digests)))
                }
                None => Message::IdentityPull(pull(nonce, PullStep::Request(digests))),
            },
            Content::DataUpdate(update) => self.update(update, channel),
            Content::StateInfo(info) => {
                Message::StateInfo(Box::new(self.state_info(info, envelope)?))
            }
            Content::StateInfoPullReq(request) => Message::StateInfoPullRequest {
                channel_mac: mac(&request.channel_mac, kind)?,
            },
            Content::StateSnapshot(snapshot) => {
                let infos = self.each(&snapshot.elements, Self::nested_state_info);
                Message::StateInfoSnapshot(named()?, infos)
            }
            Content::StateRequest(request) => Message::StateRequest {
                channel: named()?,
                nonce,
                start: request.start_seq_num,
                end: request.end_seq_num,
            },
            Content::StateResponse(response) => Message::StateResponse {
                channel: named()?,
                nonce,
                payloads: state_payloads(response, envelope.frame().len()),
            },
            Content::LeadershipMsg(leadership) => {
                Message::Leadership(named()?, self.leadership(leadership, envelope)?)
            }
            Content::PrivateData(data) => Message::PrivateData(named()?, nonce, Box::new(data)),
            Content::PrivateReq(request) => {
                Message::PrivateRequest(named()?, nonce, Box::new(request))
            }
            Content::PrivateRes(response) => {
                Message::PrivateResponse(named()?, nonce, Box::new(response))
            }
            Content::Ack(ack) => Message::Ack {
                nonce,
                error: ack.error,
            },
            Content::Empty(_) => Message::Empty,
            Content::Conn(_) | Content::PeerIdentity(_) => {
                return Err(MessageError::OutOfPlace { kind });
            }
        })
    }

    /// Applies `verify` to each envelope and leaves out what it refuses.
    fn each<T>(
        &mut self,
        envelopes: &[gossip::Envelope],
        verify: impl Fn(&mut Self, &gossip::Envelope) -> Result<T, MessageError>,
    ) -> Vec<T> {
        let mut good = Vec::with_capacity(envelopes.len());
        let (mut repeated, mut given_up) = (0, 0);
        for envelope in envelopes {
            match verify(self, envelope) {
                Ok(verified) => good.push(verified),
                Err(MessageError::Repeated { unread }) => repeated += unread,
                Err(MessageError::GivenUp { unread }) => given_up += unread,
                Err(error) => self.refused.push(error),
            }
        }
        if given_up > 0 {
            self.refused
                .push(MessageError::GivenUp { unread: given_up });
        }
        if repeated > 0 {
            self.refused
                .push(MessageError::Repeated { unread: repeated });
        }
        good
    }

    /// Counts a message of `author`. One too many is refused before it costs anything.
    fn count(&mut self, author: PkiId) -> Result<(), MessageError> {
        let seen = self.seen.entry(author).or_default();
        *seen += 1;
        match *seen <= MAX_OF_AUTHOR {
            true => Ok(()),
            false => Err(MessageError::Repeated { unread: 1 }),
        }
    }

    fn nested_alive(&mut self, nested: &gossip::Envelope) -> Result<Verified<Alive>, MessageError> {
        let envelope = detached(nested)?;
        match content_of(open(&envelope)?)? {
            Content::AliveMsg(alive) => self.alive(alive, envelope),
            other => Err(unexpected("alive message", &other)),
        }
    }

    fn nested_state_info(
        &mut self,
        nested: &gossip::Envelope,
    ) -> Result<Verified<StateInfo>, MessageError> {
        let envelope = detached(nested)?;
        match content_of(open(&envelope)?)? {
            Content::StateInfo(info) => self.state_info(info, envelope),
            other => Err(unexpected("StateInfo", &other)),
        }
    }

    /// Fabric: `ValidateAliveMsg`.
    fn alive(
        &mut self,
        alive: AliveMessage,
        envelope: Envelope,
    ) -> Result<Verified<Alive>, MessageError> {
        const KIND: &str = "alive message";
        let member = alive.membership.ok_or(MessageError::BadField {
            kind: KIND,
            field: "membership",
        })?;
        let pki_id = pki_id(&member.pki_id, KIND)?;
        self.count(pki_id)?;
        let content = Alive {
            pki_id,
            endpoint: endpoint(&member.endpoint, KIND)?,
            internal_endpoint: internal_endpoint(&envelope)?,
            metadata: member.metadata,
            time: peer_time(alive.timestamp, KIND)?,
        };
        if content.metadata.len() > MAX_METADATA {
            return Err(MessageError::BadField {
                kind: KIND,
                field: "metadata",
            });
        }
        let author = if alive.identity.is_empty() {
            self.author(pki_id, KIND)?
        } else {
            self.identity_of(pki_id, &alive.identity, KIND)?
        };
        self.signed(content, envelope, author, KIND)
    }

    /// Fabric: `validateStateInfoMsg`.
    fn state_info(
        &mut self,
        info: gossip::StateInfo,
        envelope: Envelope,
    ) -> Result<Verified<StateInfo>, MessageError> {
        const KIND: &str = "StateInfo";
        let properties = info.properties.unwrap_or_default();
        let pki_id = pki_id(&info.pki_id, KIND)?;
        self.count(pki_id)?;
        let content = StateInfo {
            pki_id,
            channel_mac: mac(&info.channel_mac, KIND)?,
            time: peer_time(info.timestamp, KIND)?,
            ledger_height: properties.ledger_height,
            left_channel: properties.left_channel,
            chaincodes: properties.chaincodes,
        };
        let author = self.author(pki_id, KIND)?;
        let info = self.signed(content, envelope, author, KIND)?;
        self.crypto
            .check_reader(info.author(), ChannelRef::Mac(&info.channel_mac))
            .map_err(|refusal| MessageError::Refused {
                kind: KIND,
                author: pki_id,
                refusal,
            })?;
        Ok(info)
    }

    /// Fabric: `validateLeadershipMessage`.
    fn leadership(
        &mut self,
        leadership: LeadershipMessage,
        envelope: Envelope,
    ) -> Result<Verified<Leadership>, MessageError> {
        const KIND: &str = "leadership message";
        let pki_id = pki_id(&leadership.pki_id, KIND)?;
        let content = Leadership {
            pki_id,
            time: peer_time(leadership.timestamp, KIND)?,
            is_declaration: leadership.is_declaration,
        };
        let author = self.author(pki_id, KIND)?;
        self.signed(content, envelope, author, KIND)
    }

    fn update(&mut self, update: gossip::DataUpdate, channel: Option<ChannelId>) -> Message {
        let nonce = update.nonce;
        match channel {
            Some(channel) => {
                let blocks = self.each(&update.data, |_, nested| nested_block(nested, &channel));
                Message::BlockPull(channel, pull(nonce, PullStep::Update(blocks)))
            }
            None => {
                let identities = self.each(&update.data, Self::nested_identity);
                Message::IdentityPull(pull(nonce, PullStep::Update(identities)))
            }
        }
    }

    /// Fabric: `certStore.validateIdentityMsg`.
    fn nested_identity(
        &mut self,
        nested: &gossip::Envelope,
    ) -> Result<Verified<PeerIdentity>, MessageError> {
        const KIND: &str = "identity message";
        let envelope = detached(nested)?;
        let identity = match content_of(open(&envelope)?)? {
            Content::PeerIdentity(identity) => identity,
            other => return Err(unexpected(KIND, &other)),
        };
        let pki_id = pki_id(&identity.pki_id, KIND)?;
        self.count(pki_id)?;
        let author = self.identity_of(pki_id, &identity.cert, KIND)?;
        self.signed(PeerIdentity { pki_id }, envelope, author, KIND)
    }

    /// The author, whose identity must be known.
    fn author(&self, author: PkiId, kind: &'static str) -> Result<Identity, MessageError> {
        self.known
            .identity(&author)
            .ok_or(MessageError::UnknownAuthor { kind, author })
    }

    /// The author, whose identity comes with the message. Validated only if it is not known.
    fn identity_of(
        &mut self,
        claimed: PkiId,
        serialized: &Bytes,
        kind: &'static str,
    ) -> Result<Identity, MessageError> {
        if serialized.len() > MAX_IDENTITY_SIZE {
            return Err(MessageError::BadField {
                kind,
                field: "identity",
            });
        }
        let found = PkiId(selvedge_protos::identity::pki_id(serialized)?);
        if found != claimed {
            return Err(MessageError::ForeignIdentity {
                kind,
                claimed,
                found,
            });
        }
        if let Some(identity) = self.known.identity(&claimed) {
            return Ok(identity);
        }
        if self.bad_identities >= MAX_BAD_IDENTITIES {
            return Err(MessageError::GivenUp { unread: 1 });
        }
        // A copy, so that the identity does not hold on to the whole message.
        let serialized = Bytes::copy_from_slice(serialized);
        Identity::check(&serialized, self.crypto).map_err(|refusal| {
            self.bad_identities += 1;
            MessageError::Refused {
                kind,
                author: claimed,
                refusal,
            }
        })
    }

    /// Checks the signatures of payload and secret (Fabric: `SignedGossipMessage.Verify`).
    fn signed<T>(
        &mut self,
        content: T,
        envelope: Envelope,
        author: Identity,
        kind: &'static str,
    ) -> Result<Verified<T>, MessageError> {
        if self.bad_signatures >= MAX_BAD_SIGNATURES {
            return Err(MessageError::GivenUp { unread: 1 });
        }
        let mut check = |message: &[u8], signature: &[u8]| {
            if message.is_empty() || signature.is_empty() {
                return Err(MessageError::Unsigned { kind });
            }
            let verified = self.crypto.verify(&author, message, signature);
            verified.map_err(|refusal| {
                let author = author.pki_id();
                self.bad_signatures += 1;
                self.seen.insert(author, MAX_OF_AUTHOR);
                MessageError::Refused {
                    kind,
                    author,
                    refusal,
                }
            })
        };
        check(envelope.payload(), envelope.signature())?;
        if let Some(secret) = &envelope.proto().secret_envelope {
            check(&secret.payload, &secret.signature)?;
        }
        Ok(Verified {
            content,
            envelope,
            author,
        })
    }
}

fn pull<T>(nonce: u64, step: PullStep<T>) -> Pull<T> {
    Pull { nonce, step }
}

/// Takes out an envelope that is kept by itself; one that is too large is not even copied.
fn detached(nested: &gossip::Envelope) -> Result<Envelope, MessageError> {
    check_kept(nested.encoded_len())?;
    Ok(Envelope::detached(nested))
}

fn nested_block(
    nested: &gossip::Envelope,
    channel: &ChannelId,
) -> Result<UnverifiedBlock, MessageError> {
    const KIND: &str = "data message";
    let envelope = Envelope::detached(nested);
    let message = open(&envelope)?;
    if channel_id(&message.channel, KIND)? != *channel {
        return Err(MessageError::BadChannel { kind: KIND });
    }
    match content_of(message)? {
        Content::DataMsg(data) => block(channel, data, envelope),
        other => Err(unexpected(KIND, &other)),
    }
}

/// A block that was padded gets an envelope of its own, which is not signed anyway: it is stored and passed on.
fn block(
    channel: &ChannelId,
    data: DataMessage,
    mut envelope: Envelope,
) -> Result<UnverifiedBlock, MessageError> {
    let mut payload = data.payload.ok_or(MessageError::BadField {
        kind: "data message",
        field: "payload",
    })?;
    if is_padded(&payload.data, envelope.frame().len()) {
        payload.data = Bytes::copy_from_slice(&payload.data);
        payload.private_data.clear();
        let content = Content::DataMsg(DataMessage {
            payload: Some(payload.clone()),
        });
        envelope = Envelope::unsigned(&gossip_message(Tag::ChanAndOrg, Some(channel), 0, content));
    }
    Ok(UnverifiedBlock {
        number: payload.seq_num,
        bytes: payload.data,
        envelope,
    })
}

fn state_payloads(response: RemoteStateResponse, frame: usize) -> Vec<StatePayload> {
    let state_payload = |payload: gossip::Payload| StatePayload {
        number: payload.seq_num,
        bytes: match is_padded(&payload.data, frame) {
            true => Bytes::copy_from_slice(&payload.data),
            false => payload.data,
        },
        private_data: payload.private_data,
    };
    response.payloads.into_iter().map(state_payload).collect()
}

/// Whether a block is so small a part of its frame that, kept as a slice of it, it would keep more memory than
/// twice what is counted for it: beside other blocks, private data, or fields without meaning.
fn is_padded(block: &Bytes, frame: usize) -> bool {
    frame / 2 > block.len().saturating_add(MAX_FRAMING)
}

fn content_of(message: GossipMessage) -> Result<Content, MessageError> {
    message.content.ok_or(MessageError::NoContent)
}

fn unexpected(expected: &'static str, found: &Content) -> MessageError {
    MessageError::Nested {
        expected,
        found: kind_of(found),
    }
}

fn pki_id(bytes: &[u8], kind: &'static str) -> Result<PkiId, MessageError> {
    PkiId::from_slice(bytes).ok_or(MessageError::BadField {
        kind,
        field: "PKI-ID",
    })
}

fn mac(bytes: &[u8], kind: &'static str) -> Result<[u8; 32], MessageError> {
    bytes.try_into().map_err(|_| MessageError::BadField {
        kind,
        field: "channel MAC",
    })
}

fn peer_time(time: Option<gossip::PeerTime>, kind: &'static str) -> Result<PeerTime, MessageError> {
    let time = time.ok_or(MessageError::BadField {
        kind,
        field: "timestamp",
    })?;
    Ok(PeerTime {
        incarnation: time.inc_num,
        sequence: time.seq_num,
    })
}

fn endpoint(endpoint: &str, kind: &'static str) -> Result<Endpoint, MessageError> {
    if endpoint.len() > MAX_ENDPOINT || endpoint.contains(char::is_control) {
        return Err(MessageError::BadField {
            kind,
            field: "endpoint",
        });
    }
    Ok(Endpoint::from(endpoint))
}

/// The internal endpoint in the secret. A secret that does not parse counts as empty, as in Fabric.
fn internal_endpoint(envelope: &Envelope) -> Result<Option<Endpoint>, MessageError> {
    let Some(secret) = &envelope.proto().secret_envelope else {
        return Ok(None);
    };
    let content = Secret::decode(secret.payload.clone())
        .ok()
        .and_then(|secret| secret.content);
    match content {
        Some(secret::Content::InternalEndpoint(text)) => endpoint(&text, "secret").map(Some),
        None => Ok(Some(Endpoint::from(""))),
    }
}
