//! The plugin's process: reads its environment, serves the engine to its host, and exits.
//!
//! The only place that exits the process, and the only one that knows both go-plugin and Vault.

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

/// Overwrites freed memory: gRPC, HTTP, TLS and JSON do not know about secrets, and leave copies of
/// what they process.
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

/// What the command line requests.
enum Request {
    Version,
    Help,
    Serve,
}

impl Request {
    /// Reads the arguments and ignores unknown ones: plugins for older versions of Vault needed flags
    /// such as `-tls-skip-verify`, and operators still register them.
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

/// Serves until the host ends the process; returns the exit code.
fn run() -> i32 {
    let source = LogSource {
        krate: env!("CARGO_CRATE_NAME"),
        module: "openrouter",
    };
    let log = Hclog::new(source, io::stderr(), now);
    std::panic::set_hook(Box::new(log.panic_hook()));
    tracing_subscriber::registry().with(log).init();

    // One thread: a host uses one connection, and handing each request to another thread would cost
    // more than answering it.
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
    // A name lookup that hangs cannot be dropped and must not delay shutdown: hosts wait for two
    // seconds before they kill the process.
    runtime.shutdown_background();
    match ended {
        Ok(ending) => {
            tracing::debug!(?ending, "ended");
            0
        }
        Err(ServeError::NotAPlugin) => {
            // Not a log line: a person reads this.
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

/// Vault probes for older protocols (`VAULT_PLUGIN_METADATA_MODE=true`) without TLS and without
/// secrets. The plugin speaks none of these protocols, but must answer: the host then reports
/// incompatible versions instead of a plugin that failed to start.
fn plaintext() -> Plaintext {
    if is_set("VAULT_PLUGIN_METADATA_MODE") {
        Plaintext::Allowed
    } else {
        Plaintext::Refused
    }
}

/// Keeps secrets out of swap space if Vault does the same, as far as the system allows.
///
/// Never fatal: Vault reports a plugin that exits here as one that it cannot understand.
fn lock_memory() {
    if !is_set("VAULT_PLUGIN_MLOCK_ENABLED") {
        return;
    }
    // Locking future memory under a finite limit would make a later allocation fail, which is fatal. In
    // that case only the current memory is locked.
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

/// Prints the requested text. Fails if stdout is closed.
fn print(text: &str) -> i32 {
    i32::from(writeln!(io::stdout(), "{text}").is_err())
}

/// Logs an error with all its causes.
fn fail(error: &(dyn std::error::Error + 'static)) -> i32 {
    tracing::error!(error, "cannot serve");
    1
}

const NAME: &str = env!("CARGO_PKG_NAME");

/// In the form of the server's plugin catalog.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// What Vault and OpenBao pass to every plugin that they mount. Not a secret.
const COOKIE: Cookie = Cookie {
    key: "VAULT_BACKEND_PLUGIN",
    value: "6669da05-b1c8-4f49-97d9-c8e5bed98e20",
};

/// Vault's plugin protocol with AutoMTLS and multiplexing, available since Vault 1.12.
const APP_PROTOCOL: u32 = 5;

/// For name resolution, the only blocking work.
const BLOCKING_THREADS: usize = 4;

const LOCK_ADVICE: &str = "set the server's memory lock limit to infinity (LimitMEMLOCK)";

const STARTED_BY_HAND: &str = concat!(
    "This is a Vault and OpenBao plugin and cannot be run by hand: put it into the server's ",
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
     This program is a plugin. A Vault or OpenBao server starts it: put it into the server's\n\
     plugin directory and run `vault plugin register` and `vault secrets enable`. Configure it\n\
     through the server's API; see `vault path-help <mount>` once it is mounted.\n\n\
     Options:\n\
     \x20 --version   print the version\n\
     \x20 -h, --help  print this text\n\n\
     Any other argument is ignored.",
);
