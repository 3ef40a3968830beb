//! OpenRouter's error body: `{"error": {"code", "message", "metadata"?}}` under the same HTTP status.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    metadata: Option<Value>,
}

impl ApiError {
    /// 400 with the text of OpenRouter's specification, followed by the reason. The live service may or
    /// may not give the reason.
    pub(crate) fn invalid(what: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            format!("Invalid request parameters: {what}"),
        )
    }

    /// 400 with a text that OpenRouter was seen to use.
    pub(crate) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Resource not found")
    }

    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        let metadata = limited.then(|| json!({ "error_type": "rate_limit_exceeded" }));
        Self {
            status,
            message: message.into(),
            metadata,
        }
    }
}

impl ApiError {
    /// The same with `error.metadata`.
    pub(crate) fn with_metadata(mut self, metadata: Value) -> Self {
        self.metadata = Some(metadata);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.status.as_u16(), "message": self.message });
        if let Some(metadata) = self.metadata {
            crate::description::merge(&mut error, json!({ "metadata": metadata }));
        }
        (self.status, Json(json!({ "error": error }))).into_response()
    }
}

/// A path that OpenRouter does not have, such as one with a trailing slash.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::not_found()
}

pub(crate) async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}
