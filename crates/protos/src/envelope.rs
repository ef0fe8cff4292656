//! The layers around a transaction: envelope, payload, headers.

use bytes::Bytes;
use prost::DecodeError;

use crate::common::{ChannelHeader, Envelope, Header, Payload, SignatureHeader};
use crate::schema::Kind::{Bytes as Octets, Message, Varint};
use crate::schema::{Schema, decode};
use crate::sha256_of_parts;

/// The fields of an [`Envelope`].
pub const ENVELOPE: Schema = Schema(&[(1, Octets), (2, Octets)]);
/// The fields of a [`Payload`].
pub const PAYLOAD: Schema = Schema(&[(1, Message(&HEADER)), (2, Octets)]);
const HEADER: Schema = Schema(&[(1, Octets), (2, Octets)]);
/// The fields of a [`ChannelHeader`].
pub const CHANNEL_HEADER: Schema = Schema(&[
    (1, Varint),
    (2, Varint),
    (3, Message(&TIMESTAMP)),
    (4, Octets),
    (5, Octets),
    (6, Varint),
    (7, Octets),
    (8, Octets),
]);
const TIMESTAMP: Schema = Schema(&[(1, Varint), (2, Varint)]);
/// The fields of a [`SignatureHeader`].
pub const SIGNATURE_HEADER: Schema = Schema(&[(1, Octets), (2, Octets)]);

/// Why the layers of an envelope could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// One layer does not parse.
    #[error("the {layer} does not parse: {source}")]
    Malformed {
        /// Which layer, in Fabric's words.
        layer: &'static str,
        /// What the decoder says.
        source: DecodeError,
    },
    /// One layer is absent.
    #[error("the {0} is missing")]
    Missing(&'static str),
}

/// An envelope with its layers opened down to the two headers, each decoded as Go's library would
/// ([`crate::schema`]).
#[derive(Debug, Clone, PartialEq)]
pub struct OpenedEnvelope {
    /// The payload as it was signed.
    pub payload_bytes: Bytes,
    /// The signature over the payload, by the creator.
    pub signature: Bytes,
    /// Type, channel and transaction id.
    pub channel_header: ChannelHeader,
    /// Creator and nonce.
    pub signature_header: SignatureHeader,
    /// What the headers speak of.
    pub data: Bytes,
}

impl OpenedEnvelope {
    /// Opens the bytes of a [`Envelope`]. Copies nothing if `bytes` is shared.
    pub fn decode(bytes: Bytes) -> Result<Self, EnvelopeError> {
        let envelope = decode(bytes, &ENVELOPE).map_err(malformed("envelope"))?;
        Self::open(envelope)
    }

    /// Opens an envelope that is already decoded.
    pub fn open(envelope: Envelope) -> Result<Self, EnvelopeError> {
        let payload: Payload =
            decode(envelope.payload.clone(), &PAYLOAD).map_err(malformed("payload"))?;
        let header = payload.header.ok_or(EnvelopeError::Missing("header"))?;
        let Header {
            channel_header,
            signature_header,
        } = header;
        Ok(Self {
            payload_bytes: envelope.payload,
            signature: envelope.signature,
            channel_header: decode(channel_header, &CHANNEL_HEADER)
                .map_err(malformed("channel header"))?,
            signature_header: decode(signature_header, &SIGNATURE_HEADER)
                .map_err(malformed("signature header"))?,
            data: payload.data,
        })
    }
}

/// The id of a transaction: lower-case hex of SHA-256 over nonce and creator
/// (Fabric: `protoutil.ComputeTxID`).
pub fn transaction_id(nonce: &[u8], creator: &[u8]) -> String {
    let hash = sha256_of_parts([nonce, creator]);
    hash.iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
            text
        })
}

fn malformed(layer: &'static str) -> impl Fn(DecodeError) -> EnvelopeError {
    move |source| EnvelopeError::Malformed { layer, source }
}
