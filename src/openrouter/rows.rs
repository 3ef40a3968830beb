//! The lists that are paged with `offset` and `limit`: all except the list of keys.
//!
//! They are short, or searched for something. A page can lose a row while others are created and deleted. The
//! caller then treats the row as missing, and what it does in that case is harmless if the row exists.

use std::ops::ControlFlow;

use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, NO_BODY};
use super::error::Error;

/// A page. Rows are parsed one by one, so that an unreadable row hides no others.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) data: Vec<Value>,
    #[serde(default)]
    total_count: Value,
}

impl Page {
    /// How many rows the list has, as it reports; some may not be shown.
    pub(super) fn total(&self) -> usize {
        let total = self.total_count.as_u64();
        total.map_or(0, |total| usize::try_from(total).unwrap_or(usize::MAX))
    }

    /// Whether the list continues at this offset. If it does not report its length, it continues as long as
    /// its pages are full.
    pub(super) fn has_more_from(&self, offset: usize) -> Result<bool, Error> {
        let total = self.total();
        if offset >= MAX_ROWS {
            return Err(Error::unclear("the list does not end"));
        }
        Ok(offset < total || (total == 0 && self.data.len() >= PAGE))
    }

    /// Its readable rows.
    pub(super) fn rows<T: DeserializeOwned>(&self) -> impl Iterator<Item = T> {
        self.data.iter().filter_map(|row| T::deserialize(row).ok())
    }
}

impl Client {
    /// One page of the list at `path`. Extends the query of `path`, if it has one.
    pub(super) async fn page_of(&self, path: &str, offset: usize) -> Result<Page, Error> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joint}limit={PAGE}&offset={offset}");
        let credential = self.transport.management_key();
        let answer = self
            .transport
            .send(Method::GET, &path, credential, NO_BODY)
            .await?;
        answer.read()
    }

    /// Visits the pages of the list at `path` until `visit` stops: the first page, the last page, where new
    /// rows are likely, and then the pages in between.
    ///
    /// # Errors
    /// Those of any page, and [`Error::Unclear`] if there are too many.
    pub(super) async fn each_page(
        &self,
        path: &str,
        mut visit: impl FnMut(&Page) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let first = self.page_of(path, 0).await?;
        if visit(&first).is_break() {
            return Ok(());
        }
        let last = first.total().saturating_sub(PAGE);
        if last > 0 && visit(&self.page_of(path, last).await?).is_break() {
            return Ok(());
        }
        let (mut page, mut offset) = (first, PAGE);
        while page.has_more_from(offset)? && (last == 0 || offset < last) {
            page = self.page_of(path, offset).await?;
            if visit(&page).is_break() {
                return Ok(());
            }
            offset += PAGE;
        }
        Ok(())
    }

    /// All rows of the list at `path`.
    ///
    /// # Errors
    /// Those of any page, and [`Error::Unclear`] if there are too many.
    pub(super) async fn all_rows<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let page = self.page_of(path, offset).await?;
            all.extend(page.rows::<T>());
            offset += PAGE;
            if !page.has_more_from(offset)? {
                return Ok(all);
            }
        }
    }
}

/// Rows per page: OpenRouter's maximum.
pub(super) const PAGE: usize = 100;
/// A longer list is considered endless.
const MAX_ROWS: usize = 1_000_000;
