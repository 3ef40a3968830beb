//! A simulator of OpenRouter's key-management API, to test clients of it and to try them out.
//!
//! It keeps accounts, workspaces, management keys and API keys in memory and answers over HTTP on a
//! loopback address as OpenRouter's documentation says it would: `/keys`, `/keys/{hash}`, `/key`,
//! `/credits`, and a completion that costs a cent. Around that it offers what no live service does: a
//! [clock](Clock) that can be moved, a [script of faults](FaultScript), a [log](RequestLog) of all that
//! was asked, and a [handle](Account) to look into an account and to change it behind a client's back.
//!
//! Nothing here was checked against the live service. `README.md` lists each behaviour with its source
//! and its test, and what is not known.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), openrouter_simulator::StartError> {
//! use openrouter_simulator::{Fault, Options, Simulator};
//!
//! let openrouter = Simulator::start(Options::default()).await?;
//! openrouter.faults().add(Fault::LostReply.on("POST", "/keys"));
//! // … let a client create a key at openrouter.base_url() with openrouter.management_key() …
//! assert!(openrouter.account().keys().is_empty());
//! openrouter.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod account;
mod api;
mod clock;
mod control;
mod description;
mod fault;
mod in_process;
mod keys;
mod limits;
mod pipeline;
mod randomness;
mod requests;
mod script;
mod server;
mod simulator;
mod state;
mod validation;

pub use account::{Account, NoSuchKey};
pub use clock::Clock;
pub use fault::{Fault, KeyChanges};
pub use in_process::InProcess;
pub use keys::{Key, ListDelay, NewKey};
pub use limits::{LimitReset, Spending};
pub use requests::{Caller, LoggedRequest, RequestLog};
pub use script::{CallerKind, FaultScript, Rule, RuleStatus};
pub use simulator::{Options, Simulator, StartError};
