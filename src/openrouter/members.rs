//! The members of an organization, to whom keys can belong.

use serde::Deserialize;

use super::client::Client;
use super::error::Error;

impl Client {
    /// The user ids of all members; `None` if the account does not belong to an organization.
    ///
    /// # Errors
    /// Every variant of [`Error`] but `UnusableKey`.
    pub async fn members(&self) -> Result<Option<Vec<String>>, Error> {
        #[derive(Deserialize)]
        struct Member {
            id: String,
        }
        match self.all_rows::<Member>("/organization/members").await {
            Ok(members) => Ok(Some(members.into_iter().map(|member| member.id).collect())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(reason) => Err(reason),
        }
    }
}
