//! The plugin's process: reads how it was started, serves the engine to its host, and ends.
//!
//! The only place that ends the process, and the one that knows both go-plugin and Vault.

use std::alloc::System;
use std::io::{self, Write as _};
use std::process::exit;
use std::sync::Arc;

use jiff::Timestamp;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use tonic::service::{Routes, RoutesBuilder};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use vault_plugin_secrets_openrouter::engine::clock::SystemClock;
use vault_plugin_secrets_openrouter::engine::factory;
use vault_plugin_secrets_openrouter::engine::randomness::SystemRandomness;
use vault_plugin_secrets_openrouter::goplugin::{
    Broker, Cookie, Environment, Handshake, Hclog, LogSource, Plaintext, ServeError, serve,
};
use vault_plugin_secrets_openrouter::logical::service::Plugin;
use vault_plugin_secrets_openrouter::openrouter::SystemNetwork;
use zeroizing_alloc::ZeroAlloc;

/// Overwrites whatever is freed: gRPC, HTTP, TLS and JSON know no secrets, and each leaves copies behind
/// of what passes through it.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() {
    let code = match Request::of_arguments() {
        Request::Version => print(&format!("{NAME} {}", env!("CARGO_PKG_VERSION"))),
        Request::Help => print(HELP),
        Request::Serve => run(),
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that ends the process"
    )]
    exit(code);
}

/// What the command line asks for.
enum Request {
    Version,
    Help,
    Serve,
}

impl Request {
    /// Reads the arguments, passing over whatever is unknown: plugins for older versions of Vault
    /// wanted flags such as `-tls-skip-verify`, and operators still register them.
    fn of_arguments() -> Self {
        let known = std::env::args_os()
            .skip(1)
            .find_map(|argument| match argument.to_str()? {
                "--version" | "-version" => Some(Self::Version),
                "--help" | "-help" | "-h" => Some(Self::Help),
                _ => None,
            });
        known.unwrap_or(Self::Serve)
    }
}

/// Serves until the host ends us; the answer is the exit code.
fn run() -> i32 {
    let source = LogSource {
        krate: env!("CARGO_CRATE_NAME"),
        module: "openrouter",
    };
    let log = Hclog::new(source, io::stderr(), now);
    std::panic::set_hook(Box::new(log.panic_hook()));
    tracing_subscriber::registry().with(log).init();

    // One thread: a host speaks to us over one connection, and to hand each of its requests from one
    // thread to another would cost more than to answer it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    lock_memory();
    let environment = Environment::of_process(&COOKIE);
    let handshake = Handshake {
        cookie: COOKIE,
        app_protocol: APP_PROTOCOL,
        plaintext: plaintext(),
    };
    let served = serve(&handshake, &environment, now(), io::stdout(), services);
    let ended = runtime.block_on(served);
    // A name lookup that hangs cannot be dropped, and must not hold up the end: hosts wait for two
    // seconds before they kill.
    runtime.shutdown_background();
    match ended {
        Ok(ending) => {
            tracing::debug!(?ending, "ended");
            0
        }
        Err(ServeError::NotAPlugin) => {
            // Not a log line: a person is looking.
            let _ = writeln!(io::stderr(), "{STARTED_BY_HAND}");
            1
        }
        Err(error) => fail(&error),
    }
}

/// The gRPC services of the engine.
fn services(broker: Broker) -> Routes {
    let factory = factory(
        Arc::new(SystemClock),
        Arc::new(SystemRandomness),
        Arc::new(SystemNetwork),
    );
    let mut routes = RoutesBuilder::default();
    Plugin::new(factory, VERSION, broker).register(&mut routes);
    routes.routes()
}

/// Vault's probing run for older protocols (`VAULT_PLUGIN_METADATA_MODE=true`) goes without TLS,
/// and without secrets. We speak none of those protocols, but only a plugin that answers can say
/// so: the host then reports incompatible versions and not a plugin that did not start.
fn plaintext() -> Plaintext {
    if is_set("VAULT_PLUGIN_METADATA_MODE") {
        Plaintext::Allowed
    } else {
        Plaintext::Refused
    }
}

/// Keeps secrets out of the swap space where Vault does the same, as far as the system lets us.
///
/// Never fatal: a plugin that ends here is reported by Vault as one it cannot understand.
fn lock_memory() {
    if !is_set("VAULT_PLUGIN_MLOCK_ENABLED") {
        return;
    }
    // To lock what is yet to come under a finite limit would make a later allocation fail, and
    // that is fatal. So then only what is there now.
    let flags = match getrlimit(Resource::Memlock).current {
        None => MlockAllFlags::CURRENT | MlockAllFlags::FUTURE,
        Some(_) => MlockAllFlags::CURRENT,
    };
    match mlockall(flags) {
        Ok(()) if flags.contains(MlockAllFlags::FUTURE) => tracing::debug!("memory is locked"),
        Ok(()) => tracing::warn!("only the memory in use at the start is locked: {LOCK_ADVICE}"),
        Err(error) => tracing::warn!(%error, "memory is not locked: {LOCK_ADVICE}"),
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "true")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock that everything else is given"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Prints what was asked for; with nobody reading there is nothing to do about it.
fn print(text: &str) -> i32 {
    i32::from(writeln!(io::stdout(), "{text}").is_err())
}

/// Logs an error with all that caused it.
fn fail(error: &(dyn std::error::Error + 'static)) -> i32 {
    tracing::error!(error, "cannot serve");
    1
}

const NAME: &str = env!("CARGO_PKG_NAME");

/// As the server's plugin catalog writes versions.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// What Vault and OpenBao give every plugin that they mount. No secret.
const COOKIE: Cookie = Cookie {
    key: "VAULT_BACKEND_PLUGIN",
    value: "6669da05-b1c8-4f49-97d9-c8e5bed98e20",
};

/// Vault's plugin protocol with AutoMTLS and multiplexing; Vault has it since 1.12.
const APP_PROTOCOL: u32 = 5;

/// For name resolution, the only thing that blocks.
const BLOCKING_THREADS: usize = 4;

const LOCK_ADVICE: &str = "set the server's memory lock limit to infinity (LimitMEMLOCK)";

const STARTED_BY_HAND: &str = concat!(
    "This is a Vault and OpenBao plugin and is not started by hand: put it into the server's ",
    "plugin directory, register it with `vault plugin register -sha256=<sum> secret ",
    env!("CARGO_PKG_NAME"),
    "` and mount it with `vault secrets enable -path=openrouter ",
    env!("CARGO_PKG_NAME"),
    "`."
);

const HELP: &str = concat!(
    env!("CARGO_PKG_NAME"),
    " ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    env!("CARGO_PKG_DESCRIPTION"),
    ".\n\n\
     The program is a plugin: a Vault or OpenBao server starts it, with its plugin directory,\n\
     `vault plugin register` and `vault secrets enable`. All configuration is done through the\n\
     server's API, see `vault path-help <mount>` once it is mounted.\n\n\
     Options:\n\
     \x20 --version   print the version\n\
     \x20 -h, --help  print this text\n\n\
     Any other argument is ignored.",
);
