//! The life of every request to the API: it is attributed, logged, delayed and answered, or fails as
//! the fault script says.
//!
//! Runs around the handlers of `api/`, in a separate task, because OpenRouter completes a started
//! request even if the client is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::api::error::ApiError;
use crate::description::merge;
use crate::fault::Fault;
use crate::requests::{Caller, LoggedRequest};
use crate::script::FaultScript;
use crate::server::Cut;
use crate::state::{Identity, Shared};

/// How a request ends.
enum Outcome {
    Reply(Response),
    Reset,
}

/// The middleware around the whole API.
pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    Extension(cut): Extension<Cut>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let request = Request::from_parts(parts, Body::from(body.clone()));
    match tokio::spawn(process(shared, request, body, next)).await {
        Ok(Outcome::Reply(reply)) => reply,
        Ok(Outcome::Reset) => cut.reset_connection().await,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn process(shared: Arc<Shared>, mut request: Request, body: Bytes, next: Next) -> Outcome {
    let identity = shared.identify(bearer_token(request.headers()));
    let entry = log_entry(&shared, &request, &body, identity.caller.clone());
    let fault = shared
        .faults
        .next_for(&entry.method, &entry.path, &entry.caller);
    let is_management = matches!(entry.caller, Caller::Management { .. });
    let ticket = shared.requests.begin(entry);
    let latency = shared.latency();
    // Even a sleep of no time lasts until the next tick of the timer, which is a millisecond.
    if is_management && !latency.is_zero() {
        sleep(latency).await;
    }
    request.extensions_mut().insert::<Identity>(identity);
    let outcome = match fault {
        None => Outcome::Reply(next.run(request).await),
        Some(fault) => {
            ticket.note_fault(fault.kind());
            request.extensions_mut().insert(fault.clone());
            let script = &shared.faults;
            match instead_of_effect(&fault, script).await {
                Some(outcome) => outcome,
                None => after_effect(&fault, script, next.run(request).await).await,
            }
        }
    };
    if let Outcome::Reply(reply) = &outcome {
        ticket.note_answer(reply.status().as_u16(), shared.clock.now());
    }
    outcome
}

/// The outcome of a request that is not carried out; `None` if it should be.
async fn instead_of_effect(fault: &Fault, script: &FaultScript) -> Option<Outcome> {
    match fault {
        Fault::ResetBeforeEffect => Some(Outcome::Reset),
        Fault::Status {
            after_effect: false,
            ..
        }
        | Fault::Html {
            after_effect: false,
            ..
        }
        | Fault::Redirect { .. } => canned_reply(fault).map(Outcome::Reply),
        Fault::Slow {
            milliseconds,
            after_effect: false,
        } => {
            sleep(Duration::from_millis(*milliseconds)).await;
            None
        }
        Fault::Held {
            after_effect: false,
        } => {
            script.hold().await;
            None
        }
        _ => None,
    }
}

/// Applies the fault to the reply of a completed request.
async fn after_effect(fault: &Fault, script: &FaultScript, reply: Response) -> Outcome {
    Outcome::Reply(match fault {
        Fault::LostReply => return Outcome::Reset,
        Fault::Slow {
            milliseconds,
            after_effect: true,
        } => {
            sleep(Duration::from_millis(*milliseconds)).await;
            reply
        }
        Fault::Held { after_effect: true } => {
            script.hold().await;
            reply
        }
        Fault::TruncatedBody => truncated(reply).await,
        Fault::NonsenseJson => {
            (reply.status(), axum::Json(json!({ "surprise": [1, 2, 3] }))).into_response()
        }
        Fault::WrongContentType => {
            with_header(reply, CONTENT_TYPE, "text/plain; charset=utf-8".to_owned())
        }
        Fault::EndlessBody => endless(reply.status()),
        Fault::EditedReply { data } => edited(reply, data).await,
        fault => canned_reply(fault).unwrap_or(reply),
    })
}

/// The replies that do not depend on the request.
fn canned_reply(fault: &Fault) -> Option<Response> {
    let status = |code: &u16| {
        let final_one = StatusCode::from_u16(*code)
            .ok()
            .filter(|code| !code.is_informational());
        final_one.unwrap_or(StatusCode::BAD_GATEWAY)
    };
    Some(match fault {
        Fault::Status {
            status: code,
            message,
            retry_after,
            ..
        } => {
            let reply = error_reply(status(code), message.as_deref());
            match retry_after {
                Some(seconds) => with_header(reply, RETRY_AFTER, seconds.to_string()),
                None => reply,
            }
        }
        Fault::Html { status: code, .. } => {
            let page = axum::response::Html("<!DOCTYPE html><title>Just a moment...</title>");
            (status(code), page).into_response()
        }
        Fault::Redirect { location } => with_header(
            StatusCode::TEMPORARY_REDIRECT.into_response(),
            LOCATION,
            location.clone(),
        ),
        _ => return None,
    })
}

fn error_reply(status: StatusCode, message: Option<&str>) -> Response {
    let own_words = match status {
        StatusCode::TOO_MANY_REQUESTS => "Rate limit exceeded",
        status => status.canonical_reason().unwrap_or("Unknown error"),
    };
    ApiError::new(status, message.unwrap_or(own_words)).into_response()
}

fn with_header(mut reply: Response, name: axum::http::HeaderName, value: String) -> Response {
    // A scripted text that a header cannot contain is left out instead of causing a panic.
    if let Ok(value) = HeaderValue::from_str(&value) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

/// The first half of the body, with the length of the whole, and then the end of the connection.
async fn truncated(reply: Response) -> Response {
    let (mut parts, body) = reply.into_parts();
    let whole = to_bytes(body, LARGEST_BODY).await.unwrap_or_default();
    parts
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = whole.slice(..whole.len() / 2);
    let pieces = stream::unfold(Some(half), |piece| async {
        match piece {
            Some(half) => Some((Ok(half), None)),
            None => {
                // Gives the first half time to be sent before the connection is closed.
                sleep(Duration::from_millis(20)).await;
                Some((Err(std::io::Error::other("the body was cut off")), None))
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

/// The reply with some fields replaced, in its data or in every key of a list.
async fn edited(reply: Response, fields: &Map<String, Value>) -> Response {
    let (parts, body) = reply.into_parts();
    let body = to_bytes(body, LARGEST_BODY).await.unwrap_or_default();
    let mut json: Value = serde_json::from_slice(&body).unwrap_or_default();
    match json.get_mut("data") {
        Some(Value::Array(keys)) => {
            for key in keys {
                merge(key, fields.clone().into());
            }
        }
        Some(data) => merge(data, fields.clone().into()),
        // Answers about assignments have no data.
        None => merge(&mut json, fields.clone().into()),
    }
    (parts.status, axum::Json(json)).into_response()
}

/// Endless white space, at a pace that leaves the machine usable.
fn endless(status: StatusCode) -> Response {
    let pieces = stream::unfold(&b"{\"data\":"[..], |piece| async move {
        sleep(Duration::from_millis(1)).await;
        Some((
            Ok::<_, Infallible>(Bytes::from_static(piece)),
            &[b' '; 16 * 1024][..],
        ))
    });
    let reply = (status, Body::from_stream(pieces)).into_response();
    with_header(reply, CONTENT_TYPE, "application/json".to_owned())
}

fn log_entry(shared: &Shared, request: &Request, body: &[u8], caller: Caller) -> LoggedRequest {
    let path = request.uri().path();
    LoggedRequest {
        number: 0,
        at: shared.clock.now(),
        method: request.method().to_string(),
        path: path.strip_prefix(BASE_PATH).unwrap_or(path).to_owned(),
        query: request.uri().query().map(str::to_owned),
        body: serde_json::from_slice(body).ok(),
        caller,
        status: None,
        answered_at: None,
        fault: None,
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Where the API lives on the server.
pub(crate) const BASE_PATH: &str = "/api/v1";

/// More than any request or reply of this API needs.
const LARGEST_BODY: usize = 1024 * 1024;
