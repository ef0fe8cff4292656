//! Envelopes: what was signed, byte for byte.

use bytes::Bytes;
use selvedge_protos::gossip::{self, GossipMessage, Secret, SecretEnvelope, secret};
use selvedge_protos::{DecodeError, Message as _};

use crate::crypto::{SignError, Signer};

/// The key of an envelope's payload: field 1, with a length.
const PAYLOAD_KEY: u8 = 0x0a;
/// Most bytes of a length in Protocol Buffers.
const MAX_LENGTH_PREFIX: usize = 10;

/// An encoded `gossip.Envelope` and its parts, which share its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    frame: Bytes,
    proto: gossip::Envelope,
}

impl Envelope {
    /// Opens an envelope that came over a stream.
    pub fn from_frame(frame: Bytes) -> Result<Self, DecodeError> {
        let proto = gossip::Envelope::decode(frame.clone())?;
        Ok(Self { frame, proto })
    }

    /// Takes an envelope out of the message that it was nested in. Copies it, so that a stored envelope
    /// does not hold on to the bytes of all its neighbours.
    pub fn detached(nested: &gossip::Envelope) -> Self {
        let frame = Bytes::from(nested.encode_to_vec());
        // Decoding what was just encoded cannot fail; if it did, the parts would merely not share bytes.
        let proto = gossip::Envelope::decode(frame.clone()).unwrap_or_else(|_| nested.clone());
        Self { frame, proto }
    }

    /// Signs `message`.
    pub fn signed(message: &GossipMessage, signer: &dyn Signer) -> Result<Self, SignError> {
        let payload = Bytes::from(message.encode_to_vec());
        let signature = signer.sign(&payload)?;
        Ok(Self::from_parts(payload, signature, None))
    }

    /// Wraps a message between two peers, which is not signed: the stream authenticates it.
    pub fn unsigned(message: &GossipMessage) -> Self {
        // Encoded once, into its place in the frame; a block is large.
        let length = message.encoded_len();
        let mut frame = Vec::with_capacity(length + 1 + MAX_LENGTH_PREFIX);
        frame.push(PAYLOAD_KEY);
        // A vector has room for all.
        let _ = message.encode_length_delimited(&mut frame);
        let start = frame.len() - length;
        let frame = Bytes::from(frame);
        let proto = gossip::Envelope {
            payload: frame.slice(start..),
            ..gossip::Envelope::default()
        };
        Self { frame, proto }
    }

    /// The same with the internal endpoint attached as a signed secret.
    pub fn with_secret(
        self,
        internal_endpoint: &str,
        signer: &dyn Signer,
    ) -> Result<Self, SignError> {
        let secret = Secret {
            content: Some(secret::Content::InternalEndpoint(
                internal_endpoint.to_owned(),
            )),
        };
        let payload = Bytes::from(secret.encode_to_vec());
        let signature = signer.sign(&payload)?;
        let secret = SecretEnvelope { payload, signature };
        Ok(Self::from_parts(
            self.proto.payload,
            self.proto.signature,
            Some(secret),
        ))
    }

    /// The same without its secret, as other organisations get it.
    pub fn without_secret(&self) -> Self {
        if !self.has_secret() {
            return self.clone();
        }
        Self::from_parts(
            self.proto.payload.clone(),
            self.proto.signature.clone(),
            None,
        )
    }

    fn from_parts(
        payload: Bytes,
        signature: Bytes,
        secret_envelope: Option<SecretEnvelope>,
    ) -> Self {
        Self::detached(&gossip::Envelope {
            payload,
            signature,
            secret_envelope,
        })
    }

    /// The bytes to put on a stream.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The protobuf message, to be nested into another.
    pub fn proto(&self) -> &gossip::Envelope {
        &self.proto
    }

    /// The encoded `GossipMessage`.
    pub fn payload(&self) -> &Bytes {
        &self.proto.payload
    }

    /// The author's signature; empty on messages between two peers.
    pub fn signature(&self) -> &Bytes {
        &self.proto.signature
    }

    /// Whether a secret is attached.
    pub fn has_secret(&self) -> bool {
        self.proto.secret_envelope.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trusting, recorded};

    #[test]
    fn frames_are_what_protocol_buffers_make_of_the_parts() {
        for message in recorded().chain([GossipMessage::default()]) {
            let unsigned = Envelope::unsigned(&message);
            let signed = Envelope::signed(&message, &Trusting).unwrap();
            let secret = signed.clone().with_secret("peer0:7051", &Trusting).unwrap();
            for envelope in [&unsigned, &signed, &secret] {
                assert_eq!(*envelope.payload(), message.encode_to_vec());
                let read = Envelope::from_frame(envelope.frame().clone()).unwrap();
                assert_eq!(read, *envelope);
            }
            assert_eq!(secret.without_secret(), signed);
        }
    }
}
