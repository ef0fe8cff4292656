//! Signed envelopes, and the headers in them.

use std::time::SystemTime;

use bytes::Bytes;
use prost_types::Timestamp;
use rand::RngCore;
use selvedge_msp::{SignatureError, SigningIdentity};
use selvedge_protos::Message;
use selvedge_protos::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};

/// A nonce of Fabric's usual length.
pub(crate) fn nonce() -> Bytes {
    let mut nonce = vec![0; 24];
    rand::rng().fill_bytes(&mut nonce);
    nonce.into()
}

/// A channel header with the current time.
pub(crate) fn channel_header(kind: HeaderType, channel_id: &str) -> ChannelHeader {
    ChannelHeader {
        r#type: kind as i32,
        timestamp: Some(Timestamp::from(SystemTime::now())),
        channel_id: channel_id.to_owned(),
        ..ChannelHeader::default()
    }
}

/// A signature header with a fresh nonce.
pub(crate) fn signature_header(signer: &SigningIdentity) -> SignatureHeader {
    SignatureHeader {
        creator: signer.serialized().clone(),
        nonce: nonce(),
    }
}

/// An envelope of which `signer` is the creator.
pub fn signed_envelope(
    signer: &SigningIdentity,
    kind: HeaderType,
    channel_id: &str,
    data: Bytes,
) -> Result<Envelope, SignatureError> {
    let channel_header = channel_header(kind, channel_id);
    sign(signer, &channel_header, &signature_header(signer), data)
}

/// Puts headers and data together and signs them.
pub(crate) fn sign(
    signer: &SigningIdentity,
    channel_header: &ChannelHeader,
    signature_header: &SignatureHeader,
    data: Bytes,
) -> Result<Envelope, SignatureError> {
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data,
    };
    let payload = Bytes::from(payload.encode_to_vec());
    let signature = signer.sign(&payload)?;
    Ok(Envelope { payload, signature })
}
