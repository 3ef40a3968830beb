//! Compiles `proto/` with `protox`, so that the machine needs no `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "goplugin/broker.proto",
        "goplugin/controller.proto",
        "goplugin/stdio.proto",
        "vault/backend.proto",
        "vault/multiplexing.proto",
        "vault/version.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    // Both sides of every service are generated: the plugin serves some and calls others, and the test
    // hosts do the reverse. The linker drops what the binary does not use.
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .codec_path("crate::goplugin::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
