//! The generated messages and services of go-plugin's own protobuf package, `plugin`.
//!
//! Public because the other end of the wire is built from it too: a host, such as the one in the
//! tests. Nothing is written by hand here.

#![expect(missing_docs, reason = "the documentation is in proto/goplugin/")]

tonic::include_proto!("plugin");
