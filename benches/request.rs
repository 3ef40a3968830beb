//! Micro-benchmarks of the steps of a request: gRPC, protobuf, the path, the fields, JSON, and all of
//! them except gRPC together, in an engine with in-memory storage. `cargo bench --bench request`.
//!
//! Measures time and allocations in this process only: no socket, no TLS, no server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark fails by panicking"
)]

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use divan::{AllocProfiler, Bencher, black_box};
use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::service_fn;
use vault_plugin_secrets_openrouter::engine::clock::Clock;
use vault_plugin_secrets_openrouter::engine::factory;
use vault_plugin_secrets_openrouter::engine::randomness::SystemRandomness;
use vault_plugin_secrets_openrouter::framework::{Field, Fields, Pattern};
use vault_plugin_secrets_openrouter::goplugin::Codec;
use vault_plugin_secrets_openrouter::logical::pb::backend as pb;
use vault_plugin_secrets_openrouter::logical::{
    Backend, Data, Entry, FixedSystemView, Lease, MemoryStorage, Mount, NoEvents, Operation,
    Request, Response, Secret, Storage as _, convert,
};
use vault_plugin_secrets_openrouter::openrouter::SystemNetwork;
use zeroizing_alloc::ZeroAlloc;

/// As in the plugin: freed memory is overwritten.
#[global_allocator]
static ALLOCATOR: AllocProfiler<ZeroAlloc<System>> = AllocProfiler::new(ZeroAlloc(System));

#[divan::bench]
fn path_matching(bencher: Bencher) {
    let shapes = [
        "config",
        "config/:name",
        "roles",
        "roles/:name",
        "creds/:name",
        "static-creds/:name",
    ];
    let patterns = shapes.map(Pattern::new);
    bencher.bench_local(|| {
        let path = black_box("static-creds/billing-service");
        patterns.iter().find_map(|pattern| pattern.matches(path))
    });
}

#[divan::bench]
fn field_parsing(bencher: Bencher) {
    let schema = [
        Field::name("name", ""),
        Field::text("credential_type", "").one_of(&["rotating", "dynamic"]),
        Field::text("key_name", ""),
        Field::number("limit", "").nullable(),
        Field::text("limit_reset", "").nullable(),
        Field::switch("include_byok_in_limit", ""),
        Field::duration("ttl", ""),
        Field::duration("rotation_period", ""),
        Field::duration("rotation_grace_period", ""),
    ];
    let body = object(json!({
        "key_name": "Billing service",
        "limit": 25,
        "limit_reset": "monthly",
        "ttl": "1h",
        "rotation_period": "30d",
    }));
    bencher.bench_local(|| Fields::parse(&schema, &[("name", "app")], black_box(&body), true));
}

#[divan::bench]
fn request_from_protobuf(bencher: Bencher) {
    let bytes = read_request().encode_to_vec();
    bencher.bench_local(|| {
        let args = pb::HandleRequestArgs::decode(black_box(&*bytes)).unwrap();
        convert::request(args.request, CancellationToken::new()).unwrap()
    });
}

#[divan::bench]
fn reply_to_protobuf(bencher: Bencher) {
    let response = Response {
        data: handed_out(),
        secret: Some(Secret {
            lease: Lease {
                ttl: Duration::from_secs(3_600),
                max_ttl: Duration::from_secs(3_600),
                renewable: false,
            },
            internal_data: object(json!({"role": "app", "key_version": 1})),
            rendered: None,
        }),
        rendered: None,
        warnings: Vec::new(),
    };
    bencher
        .with_inputs(|| response.clone())
        .bench_local_values(|response| convert::reply(Ok(Some(response))).encode_to_vec());
}

#[divan::bench]
fn call_through_grpc(bencher: Bencher) {
    let reply = convert::reply(Ok(Some(Response::with_data(handed_out()))));
    let message = read_request().encode_to_vec();
    // One byte that marks the message as uncompressed, and four for its length.
    let length = u32::try_from(message.len()).unwrap();
    let message = Bytes::from([&[0], &length.to_be_bytes()[..], &message].concat());
    let mut service = service_fn(async |request: tonic::Request<pb::HandleRequestArgs>| {
        drop(request);
        Ok(tonic::Response::new(reply.clone()))
    });
    bencher.bench_local(|| {
        let mut grpc = tonic::server::Grpc::new(Codec::default());
        let request = hyper::Request::new(Full::new(message.clone()));
        let answer = at_once(grpc.unary(&mut service, request));
        at_once(answer.into_body().collect()).unwrap()
    });
}

#[divan::bench]
fn stored_role_from_json(bencher: Bencher) {
    let value = stored_role();
    bencher.bench_local(|| Entry::parse::<Value>("roles/app", black_box(&value)).unwrap());
}

#[divan::bench(args = ["static-creds/app", "creds/app"])]
fn read_in_the_engine(bencher: Bencher, path: &str) {
    let engine = engine();
    bencher.bench_local(|| {
        let request = Request::new(Operation::Read, black_box(path));
        at_once(engine.handle_request(request)).unwrap().unwrap()
    });
}

/// The server's request for a read of a key.
fn read_request() -> pb::HandleRequestArgs {
    pb::HandleRequestArgs {
        storage_id: 0,
        request: Some(pb::Request {
            id: "2f9d7f4e-0e2c-49b8-8d5a-7c5c3d9a3f5e".to_owned(),
            operation: "read".to_owned(),
            path: "static-creds/app".to_owned(),
            data: "null".to_owned(),
            display_name: "kubernetes-billing".to_owned(),
            ..pb::Request::default()
        }),
    }
}

/// The fields of the answer.
fn handed_out() -> Data {
    object(json!({
        "api_key": "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",
        "key_hash": "d21932ed394368fd5905b450f0bb54c2b54cf5bd211a74636cfa2993961a976a",
        "key_name": "Billing service 2026-11-21 vault-135fdf78fdd8020a55a8f41b2216dea6",
        "key_version": 1,
        "last_vault_rotation": "2026-11-21T04:50:38.810173846Z",
        "rotation_period": 2_592_000,
        "ttl": 3_600,
    }))
}

/// An engine with the stored role, at a time when its key is valid.
fn engine() -> Arc<dyn Backend> {
    let storage = MemoryStorage::default();
    let entry = Entry {
        key: "roles/app".to_owned(),
        value: stored_role(),
    };
    at_once(storage.put(entry)).unwrap();
    let noon = Noon("2026-11-20T12:00:00Z".parse().unwrap());
    let randomness = Arc::new(SystemRandomness);
    let factory = factory(Arc::new(noon), randomness, Arc::new(SystemNetwork));
    factory(Mount {
        storage: Arc::new(storage),
        system: Arc::new(FixedSystemView::default()),
        events: Arc::new(NoEvents),
        backend_uuid: String::new(),
    })
}

fn stored_role() -> Vec<u8> {
    let entries = include_str!("../tests/data/stored/format-1.json");
    let mut entries: BTreeMap<String, Value> = serde_json::from_str(entries).unwrap();
    entries
        .remove("roles/app")
        .unwrap()
        .to_string()
        .into_bytes()
}

/// A clock that is stuck at the time when the role was stored.
struct Noon(Timestamp);

#[async_trait]
impl Clock for Noon {
    fn now(&self) -> Timestamp {
        self.0
    }

    async fn sleep_until(&self, _: Timestamp) {
        std::future::pending::<()>().await;
    }
}

/// The result of a future that never waits.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("nothing waits")
}

fn object(value: Value) -> Data {
    match value {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

fn main() {
    // What was cached is dropped by a task.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    divan::main();
}
