//! Requests to the engines: which engine a request reaches, how long its caller waits, and what happens to it
//! on the way.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{
    Data, Error, Existence, Operation, Request, Response,
};
use vault_plugin_secrets_openrouter::openrouter::HttpRequest;

use crate::node::Node;
use crate::world::World;

/// The outcome of a request; the error is for people.
pub(crate) type Answer = Result<Option<Response>, String>;

impl World {
    /// The engine that a request reaches. A server does not know at once that it was deposed.
    fn route(&self) -> Option<Arc<Node>> {
        let cluster = self.cluster.lock().unwrap();
        let unaware = SignedDuration::from_secs(2);
        if let Some((node, since)) = cluster.deposed.last()
            && self.now().duration_since(*since) < unaware
            && !node.life.is_over()
            && self.dice.chance(0.5)
        {
            return Some(Arc::clone(node));
        }
        cluster.active.clone()
    }

    /// A request of a caller with this time limit.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        request: Request,
        patience: Option<Duration>,
    ) -> (Answer, Option<Arc<Node>>) {
        let Some(node) = self.route() else {
            return (Err("there is no leader".to_owned()), None);
        };
        let first = self.ask_node(&node, request.clone(), patience).await;
        // The server repeats a request that met a dead process, once.
        if first.as_ref().is_err_and(|reason| reason == DIED) && self.dice.chance(0.5) {
            sleep(Duration::from_millis(200)).await;
            if let Some(next) = self.active().filter(|next| next.server == node.server) {
                return (self.ask_node(&next, request, patience).await, Some(next));
            }
        }
        (first, Some(node))
    }

    /// The same to this engine.
    pub(crate) async fn ask_node(
        self: &Arc<Self>,
        node: &Arc<Node>,
        request: Request,
        patience: Option<Duration>,
    ) -> Answer {
        let caller_gone = request.caller_gone.clone();
        let mut handler = tokio::spawn(handle(Arc::clone(node), request));
        tokio::select! {
            biased;
            answer = &mut handler => match answer {
                Ok(answer) => answer.map_err(|reason| reason.to_string()),
                Err(panic) => {
                    self.violated("a handler panicked", &[]);
                    Err(panic.to_string())
                }
            },
            () = node.life.ended() => Err(DIED.to_owned()),
            () = sleep(patience.unwrap_or(LONGEST_REQUEST)) => {
                caller_gone.cancel();
                // An answer that was on its way at that moment still arrives.
                sleep(Duration::from_millis(1)).await;
                if handler.is_finished()
                    && let Ok(answer) = (&mut handler).await
                {
                    return answer.map_err(|reason| reason.to_string());
                }
                // The server lets a handler continue. The engine must not depend on that.
                if self.dice.chance(0.25) {
                    self.witness.tear(self.now());
                    handler.abort();
                }
                Err("the caller gave up".to_owned())
            }
        }
    }

    /// Called before a request arrives at OpenRouter: in a busy account, other clients delete keys during a
    /// listing.
    pub(crate) fn before_arrival(&self, request: &HttpRequest) {
        let is_second_page = request.url.contains("&offset=") && !request.url.contains("&offset=0");
        if is_second_page && self.dice.chance(0.3) {
            let account = &self.openrouter.accounts[0];
            let foreign = account.keys().into_iter().rev();
            let mut foreign = foreign.filter(|key| key.name.starts_with("somebody's"));
            if let Some(key) = foreign.next() {
                self.story
                    .tell("a person deletes a key of their own, between two pages");
                account.delete_key(&key.hash).unwrap();
            }
        }
    }
}

/// As the server does it: it first asks whether a write is a creation.
async fn handle(node: Arc<Node>, mut request: Request) -> Result<Option<Response>, Error> {
    if request.operation == Operation::Update {
        let question = Request::new(Operation::Update, request.path.clone());
        if node.backend.existence_check(question).await? == Existence::Absent {
            request.operation = Operation::Create;
        }
    }
    let answer = node.backend.handle_request(request).await?;
    Ok(answer.map(Response::unfolded))
}

/// A request with these fields.
pub(crate) fn request(operation: Operation, path: &str, body: serde_json::Value) -> Request {
    let data = match body {
        serde_json::Value::Object(fields) => fields,
        _ => Data::new(),
    };
    Request::new(operation, path).with_data(data)
}

const DIED: &str = "the plugin died";
/// What the server gives a request.
const LONGEST_REQUEST: Duration = Duration::from_secs(90);
