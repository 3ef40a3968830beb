//! The lists that are paged with `offset` and `limit`: all but that of keys.
//!
//! They are short, or looked through for something: what a page has lost while rows come and go is
//! found to be missing, and whoever misses something does what is harmless if it was not.

use std::ops::ControlFlow;

use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, NO_BODY};
use super::error::Error;

/// A page. Rows are read one by one, so that one that looks odd hides no others.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) data: Vec<Value>,
    #[serde(default)]
    total_count: Value,
}

impl Page {
    /// How many rows there are by what it says of itself; some may not be shown.
    pub(super) fn total(&self) -> usize {
        let total = self.total_count.as_u64();
        total.map_or(0, |total| usize::try_from(total).unwrap_or(usize::MAX))
    }

    /// Whether the list goes on from this offset. One that does not say how long it is does as long as
    /// its pages are full.
    pub(super) fn has_more_from(&self, offset: usize) -> Result<bool, Error> {
        let total = self.total();
        if offset >= MOST_ROWS {
            return Err(Error::unclear("a list comes to no end"));
        }
        Ok(offset < total || (total == 0 && self.data.len() >= PAGE))
    }

    /// Its rows, of those that can be read as such.
    pub(super) fn rows<T: DeserializeOwned>(&self) -> impl Iterator<Item = T> {
        self.data.iter().filter_map(|row| T::deserialize(row).ok())
    }
}

impl Client {
    /// One page of the list at `path`, whose query, if it has one, is continued.
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

    /// Visits the pages of the list at `path`, until `visit` breaks off: the first one, the last one,
    /// where what is new is likely to be, and then those between.
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

/// Rows on a page: the most that OpenRouter gives.
pub(super) const PAGE: usize = 100;
/// A list this long is taken for one without end.
const MOST_ROWS: usize = 1_000_000;
