//! `offset` and `limit`, as in all lists except that of keys, and `total_count` beside `data`.

use axum::Json;
use axum::extract::Query;
use axum::http::Uri;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::error::ApiError;

/// The requested part of a list.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    #[serde(default)]
    offset: usize,
    #[serde(default = "usual")]
    limit: usize,
}

impl Paging {
    pub(super) fn new(offset: Option<usize>, limit: Option<usize>) -> Result<Self, ApiError> {
        let limit = limit.unwrap_or_else(usual);
        if !(1..=100).contains(&limit) {
            return Err(ApiError::invalid("limit must be between 1 and 100"));
        }
        let offset = offset.unwrap_or_default();
        Ok(Self { offset, limit })
    }

    /// Parses a query that contains nothing else.
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let Self { offset, limit } = query(uri)?;
        Self::new(Some(offset), Some(limit))
    }

    /// The answer with the page's rows, each described by `describe`. A row without a description is
    /// left out, but still counted.
    pub(super) fn answer<T>(
        self,
        rows: &[T],
        describe: impl FnMut(&T) -> Option<Value>,
    ) -> Json<Value> {
        let page = rows.iter().skip(self.offset).take(self.limit);
        let page: Vec<Value> = page.filter_map(describe).collect();
        Json(json!({ "data": page, "total_count": rows.len() }))
    }
}

/// Parses a query and rejects unknown parameters.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let query = Query::<T>::try_from_uri(uri);
    let Query(query) = query.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    Ok(query)
}

/// The default number of rows, according to the specification.
fn usual() -> usize {
    50
}
