//! Conversion between protobuf messages and this crate's types. The pitfalls of the format are handled
//! here: JSON is sent as text that must never be empty, durations are in nanoseconds, and a lease must
//! have an issue time.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::pb::backend as pb;
use super::{
    Data, Error, LeasedSecret, Operation, Rendered, Request, Response, Secret, SpecialPaths,
    UnknownOperation,
};

/// A request that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// The host omitted the request.
    #[error("the message contains no request")]
    Missing,
    /// An operation that engines here do not support.
    #[error(transparent)]
    Operation(#[from] UnknownOperation),
    /// A JSON field that is not a JSON object.
    #[error("{0} is not a JSON object")]
    NotAnObject(&'static str),
}

impl From<BadRequest> for Error {
    fn from(reason: BadRequest) -> Self {
        match reason {
            BadRequest::Operation(_) => Self::UnsupportedOperation,
            other => Self::Invalid(other.to_string()),
        }
    }
}

/// Reads a request. `caller_gone` is cancelled when the host abandons the call.
///
/// # Errors
/// See [`BadRequest`].
pub fn request(
    message: Option<pb::Request>,
    caller_gone: CancellationToken,
) -> Result<Request, BadRequest> {
    let message = message.ok_or(BadRequest::Missing)?;
    let data = object(&message.data, "the request's data")?;
    let secret = message.secret.as_ref().map(leased_secret).transpose()?;
    Ok(Request {
        data,
        secret,
        ..line(message, caller_gone)?
    })
}

/// Reads a request without its data: an existence check depends on the path alone, and happens before
/// the caller's permissions are checked.
///
/// # Errors
/// See [`BadRequest`].
pub fn request_line(message: Option<pb::Request>) -> Result<Request, BadRequest> {
    line(
        message.ok_or(BadRequest::Missing)?,
        CancellationToken::new(),
    )
}

fn line(message: pb::Request, caller_gone: CancellationToken) -> Result<Request, BadRequest> {
    let operation = message.operation.parse::<Operation>()?;
    Ok(Request {
        id: message.id,
        display_name: message.display_name,
        entity_id: message.entity_id,
        mount_point: message.mount_point,
        ..Request::of_caller(operation, message.path, caller_gone)
    })
}

/// The reply to a request. A user's mistake is sent as a response, which the host shows unchanged. The
/// error field must stay empty, or the host would show that instead.
pub fn reply(outcome: Result<Option<Response>, Error>) -> pb::HandleRequestReply {
    match outcome {
        Ok(answer) => pb::HandleRequestReply {
            response: answer.map(response),
            err: None,
        },
        Err(Error::Invalid(text)) => pb::HandleRequestReply {
            response: Some(pb::Response {
                data: Value::Object(Data::from_iter([("error".to_owned(), text.into())]))
                    .to_string(),
                ..pb::Response::default()
            }),
            err: None,
        },
        Err(other) => pb::HandleRequestReply {
            response: retry_after(&other),
            err: Some(error(&other)),
        },
    }
}

/// A response beside an error carries nothing but headers.
fn retry_after(error: &Error) -> Option<pb::Response> {
    let Error::Status {
        retry_after: Some(seconds),
        ..
    } = error
    else {
        return None;
    };
    let header = pb::Header {
        header: vec![seconds.to_string()],
    };
    Some(pb::Response {
        data: "null".to_owned(),
        headers: [("Retry-After".to_owned(), header)].into(),
        ..pb::Response::default()
    })
}

/// An error as the number that the host maps to an HTTP status.
pub(super) fn error(error: &Error) -> pb::ProtoError {
    let (err_type, err_code) = match error {
        // The host recognises errors without a number by their text.
        Error::ReadOnly => (UNKNOWN, 0),
        Error::Invalid(_) => (STATUS_BAD_REQUEST, 0),
        Error::Internal(_) => (INTERNAL, 0),
        Error::Status { code, .. } => (CODED, i64::from(*code)),
        Error::UnsupportedOperation => (UNSUPPORTED_OPERATION, 0),
        Error::UnsupportedPath => (UNSUPPORTED_PATH, 0),
    };
    pb::ProtoError {
        err_type,
        err_msg: error.to_string(),
        err_code,
    }
}

pub(super) fn special_paths(paths: SpecialPaths) -> pb::Paths {
    pb::Paths {
        root: paths.root,
        unauthenticated: paths.unauthenticated,
        local_storage: paths.local_storage,
        seal_wrap_storage: paths.seal_wrap_storage,
        write_forwarded_storage: Vec::new(),
    }
}

fn response(response: Response) -> pb::Response {
    pb::Response {
        secret: response.secret.map(secret),
        data: text(response.rendered, response.data),
        warnings: response.warnings,
        ..pb::Response::default()
    }
}

fn secret(secret: Secret) -> pb::Secret {
    pb::Secret {
        lease_options: Some(pb::LeaseOptions {
            ttl: nanoseconds(secret.lease.ttl),
            renewable: secret.lease.renewable,
            increment: 0,
            // The host sets the actual time; it rejects the whole reply if there is none.
            issue_time: Some(prost_types::Timestamp::default()),
            max_ttl: nanoseconds(secret.lease.max_ttl),
        }),
        internal_data: text(secret.rendered, secret.internal_data),
        // The host generates its own.
        lease_id: String::new(),
    }
}

fn text(rendered: Option<Rendered>, fields: Data) -> String {
    match rendered {
        Some(rendered) => rendered.text().to_owned(),
        None => Value::Object(fields).to_string(),
    }
}

fn leased_secret(message: &pb::Secret) -> Result<LeasedSecret, BadRequest> {
    let options = message.lease_options.unwrap_or_default();
    Ok(LeasedSecret {
        internal_data: object(&message.internal_data, "the lease's internal data")?,
        issued_at: options.issue_time.map_or(0, |time| time.seconds),
        ttl: duration(options.ttl),
        increment: duration(options.increment),
    })
}

/// Go sends an empty map as `null`, and omits an unset field.
fn object(text: &str, what: &'static str) -> Result<Data, BadRequest> {
    if text.is_empty() {
        return Ok(Data::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(data)) => Ok(data),
        Ok(Value::Null) => Ok(Data::new()),
        _ => Err(BadRequest::NotAnObject(what)),
    }
}

pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Negative durations, which Go allows, count as zero here.
pub(super) fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

// `ErrType…` of sdk/plugin/pb/translation.go.
const UNKNOWN: u32 = 0;
const INTERNAL: u32 = 2;
const CODED: u32 = 3;
const STATUS_BAD_REQUEST: u32 = 4;
const UNSUPPORTED_OPERATION: u32 = 5;
const UNSUPPORTED_PATH: u32 = 6;

#[cfg(test)]
mod tests {
    use super::super::Lease;
    use super::*;

    fn message(data: &str) -> pb::Request {
        pb::Request {
            operation: "update".to_owned(),
            path: "roles/app".to_owned(),
            data: data.to_owned(),
            ..pb::Request::default()
        }
    }

    fn parse(message: pb::Request) -> Result<Request, BadRequest> {
        request(Some(message), CancellationToken::new())
    }

    #[test]
    fn data_may_be_an_object_or_null_or_left_out() {
        let full = parse(message(r#"{"limit": 25, "key_name": null}"#)).unwrap();
        assert_eq!(full.data["limit"], 25);
        assert_eq!(full.data["key_name"], Value::Null);
        assert!(parse(message("null")).unwrap().data.is_empty());
        assert!(parse(message("")).unwrap().data.is_empty());
        assert!(matches!(
            parse(message("[1]")),
            Err(BadRequest::NotAnObject(_))
        ));
    }

    #[test]
    fn an_unknown_operation_is_unsupported_rather_than_a_fault() {
        let reason = parse(pb::Request {
            operation: "header".to_owned(),
            ..message("null")
        })
        .unwrap_err();
        assert_eq!(Error::from(reason), Error::UnsupportedOperation);
    }

    #[test]
    fn json_in_a_reply_is_never_empty() {
        let reply = reply(Ok(Some(Response {
            secret: Some(Secret {
                lease: Lease {
                    ttl: Duration::from_secs(5),
                    max_ttl: Duration::ZERO,
                    renewable: false,
                },
                internal_data: Data::new(),
                rendered: None,
            }),
            ..Response::default()
        })));
        let response = reply.response.unwrap();
        assert_eq!(response.data, "{}");
        let secret = response.secret.unwrap();
        assert_eq!(secret.internal_data, "{}");
        let options = secret.lease_options.unwrap();
        assert_eq!(options.ttl, 5_000_000_000);
        assert!(options.issue_time.is_some());
    }

    #[test]
    fn what_was_rendered_before_is_sent_as_it_is_and_reads_the_same_here() {
        let data = Data::from_iter([("api_key".to_owned(), "planted".into())]);
        let internal_data = Data::from_iter([("role".to_owned(), "app".into())]);
        let lease = Lease {
            ttl: Duration::from_secs(5),
            max_ttl: Duration::ZERO,
            renewable: false,
        };
        let plain = Response {
            secret: Some(Secret {
                lease,
                internal_data: internal_data.clone(),
                rendered: None,
            }),
            ..Response::with_data(data.clone())
        };
        let folded = Response {
            secret: Some(Secret {
                lease,
                internal_data: Data::new(),
                rendered: Some(internal_data.into()),
            }),
            ..Response::with_rendered(Rendered::showing(&data).unwrap())
        };
        assert!(!format!("{folded:?}").contains("planted"));
        assert_eq!(folded.clone().unfolded(), plain);
        assert_eq!(reply(Ok(Some(folded))), reply(Ok(Some(plain))));
    }

    #[test]
    fn a_users_mistake_is_a_response_and_nothing_else() {
        let reply = reply(Err(Error::invalid("limit must be more than 0")));
        assert!(reply.err.is_none());
        assert_eq!(
            reply.response.unwrap().data,
            r#"{"error":"limit must be more than 0"}"#
        );
    }

    #[test]
    fn a_read_only_error_keeps_the_phrase_that_makes_the_host_forward() {
        let error = reply(Err(Error::ReadOnly)).err.unwrap();
        assert_eq!(error.err_type, 0);
        assert!(error.err_msg.contains("cannot write to readonly storage"));
    }

    #[test]
    fn an_error_with_a_status_travels_as_coded() {
        let answer = reply(Err(Error::status(502, "no answer")));
        assert_eq!(answer.response, None);
        let error = answer.err.unwrap();
        assert_eq!((error.err_type, error.err_code), (3, 502));
    }

    #[test]
    fn a_time_to_try_again_travels_as_a_header_beside_the_error() {
        let answer = reply(Err(Error::status(429, "full").after(Some(90))));
        assert_eq!(answer.err.unwrap().err_code, 429);
        let response = answer.response.unwrap();
        assert_eq!(response.data, "null");
        assert_eq!(response.headers["Retry-After"].header, ["90"]);
    }

    #[test]
    fn a_lease_comes_back_with_its_internal_data() {
        let parsed = parse(pb::Request {
            operation: "revoke".to_owned(),
            secret: Some(pb::Secret {
                lease_options: Some(pb::LeaseOptions {
                    ttl: 60_000_000_000,
                    increment: -1,
                    issue_time: Some(prost_types::Timestamp {
                        seconds: 1_800_000_000,
                        nanos: 0,
                    }),
                    ..pb::LeaseOptions::default()
                }),
                internal_data: r#"{"role":"app"}"#.to_owned(),
                lease_id: String::new(),
            }),
            ..message("null")
        })
        .unwrap();
        let secret = parsed.secret.unwrap();
        assert_eq!(secret.internal_data["role"], "app");
        assert_eq!(secret.ttl, Duration::from_secs(60));
        assert_eq!(secret.increment, Duration::ZERO);
        assert_eq!(secret.issued_at, 1_800_000_000);
    }
}
