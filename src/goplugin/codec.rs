//! Protobuf in and out of gRPC's frames.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstDecoder, ProstEncoder};

/// tonic's codec for protobuf, with buffers sized for this plugin's messages. tonic's own buffers are 8
/// KiB, and a read of a key needs four of them; each is allocated, and overwritten when freed.
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER, BATCH)
}

/// The initial size of a buffer, in bytes; it grows with the message.
const BUFFER: usize = 1_024;

/// How many bytes of ready messages are sent together on a stream. tonic's value.
const BATCH: usize = 32 * 1_024;
