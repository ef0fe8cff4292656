//! gRPC messages left as bytes.
//!
//! What is hashed, signed, stored or forwarded must be kept as it arrived, and decoding it twice is
//! waste. [`RawCodec`] hands over the bytes of each message; decoding is the reader's business.

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Messages below this size get an allocation of their own. A slice keeps the whole read buffer
/// alive, which for a small message that is kept for long would be mostly other messages.
const COPY_BELOW: usize = 16 * 1024;

/// A codec whose messages are the encoded bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.len());
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(if message.len() < COPY_BELOW {
            Bytes::copy_from_slice(&message)
        } else {
            message
        }))
    }
}
