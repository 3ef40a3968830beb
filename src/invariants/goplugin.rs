//! Invariants of the host's broker stream.

use std::sync::Arc;

use futures::FutureExt as _;
use http_body_util::Full;
use tonic::Streaming;
use tonic::codec::Codec as _;
use tonic::codegen::Bytes;

use super::broker::{Announcements, listen};
use super::codec::Codec;
use super::error::BrokerError;
use super::pb::ConnInfo;
use super::transport::Address;

/// The input is the body of the call: gRPC frames with one `ConnInfo` each.
pub fn broker_stream(input: &[u8]) {
    let body = Full::new(Bytes::copy_from_slice(input));
    let decoder = Codec::<(), ConnInfo>::default().decoder();
    let stream = Streaming::new_request(decoder, body, None, None);
    let announced = Arc::new(Announcements::default());
    let listened = listen(stream, Arc::clone(&announced)).now_or_never();
    assert!(listened.is_some(), "the stream's end is the listener's");

    for number in announced.numbers() {
        let info = announced.take(number).now_or_never();
        assert_eq!(info.as_ref().map(|info| info.service_id), Some(number));
        let address = info.map(Address::try_from);
        let understood = matches!(&address, Some(Ok(_)));
        let foreign = matches!(&address, Some(Err(BrokerError::UnsupportedNetwork { network }))
            if !matches!(network.as_str(), "unix" | "tcp"));
        assert!(
            understood || foreign,
            "{number} is announced as {address:?}"
        );
        assert!(announced.take(number).now_or_never().is_none(), "only once");
    }
}
