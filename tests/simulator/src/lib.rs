//! A simulator of OpenRouter's key-management API, for testing clients and trying them out.
//!
//! It keeps accounts, workspaces, management keys and API keys in memory, and answers over HTTP on a
//! loopback address as OpenRouter documents: `/keys`, `/key`, `/credits`, `/workspaces`, `/guardrails`,
//! `/organization/members`, and a completion that costs a cent. It adds what no live service offers: a
//! [clock](Clock) that can be moved, a [script of faults](FaultScript), [rules](Billing) for spending
//! and when it becomes known, a [log](RequestLog) of all requests, and a [handle](Account) to inspect
//! an account and to change it behind a client's back.
//!
//! Nothing here was checked against the live service. `BEHAVIOR.md` lists each behaviour with its source
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
mod assignments;
mod billing;
mod budgets;
mod calls;
mod clock;
mod control;
mod description;
mod fault;
mod guardrails;
mod hiding;
mod in_process;
mod keys;
mod limits;
mod management_keys;
mod organization;
mod pipeline;
mod randomness;
mod requests;
mod script;
mod server;
mod simulator;
mod spending;
mod state;
mod validation;
mod workspaces;

pub use account::{Account, NoSuchKey, NotPossible};
pub use billing::{Billing, BillingRules, ChargedIn, CreditsAnswer, Exhausted, Price};
pub use budgets::{Budget, BudgetScope};
pub use calls::{Call, CallInFlight, CallRefused};
pub use clock::Clock;
pub use fault::{Fault, KeyChanges};
pub use guardrails::{Guardrail, GuardrailChanges, NewGuardrail};
pub use hiding::ListDelay;
pub use in_process::InProcess;
pub use keys::{Key, NewKey};
pub use limits::LimitReset;
pub use organization::{Member, MemberRole};
pub use requests::{Caller, LoggedRequest, RequestLog};
pub use script::{CallerKind, FaultScript, Rule, RuleStatus};
pub use simulator::{Options, Simulator, StartError};
pub use spending::Spending;
pub use workspaces::{Workspace, WorkspaceBudget};
