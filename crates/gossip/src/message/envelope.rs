//! Envelopes: what was signed, byte for byte.

use bytes::Bytes;
use selvedge_protos::gossip::{self, GossipMessage, Secret, SecretEnvelope, secret};
use selvedge_protos::{DecodeError, Message as _};

use crate::crypto::{SignError, Signer};

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
        Self::from_parts(message.encode_to_vec().into(), Bytes::new(), None)
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
        let proto = gossip::Envelope {
            payload,
            signature,
            secret_envelope,
        };
        let frame = proto.encode_to_vec().into();
        Self { frame, proto }
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
