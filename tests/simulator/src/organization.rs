//! The owner of an account: a person, or an organization with members.
//!
//! In a person's account, that person is the creator of every key. In an organization, a key has a
//! creator only if the request names one, so member guardrails do not apply to the other keys.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::keys::Key;
use crate::state::AccountState;

/// The owner of an account.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owner {
    Person { user_id: String },
    Organization { id: String, members: Vec<Member> },
}

/// A member of an organization.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The id that keys name as their creator.
    pub user_id: String,
    /// The mail address.
    pub email: String,
    /// The member's role.
    pub role: MemberRole,
}

/// The role of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Manages the organization.
    Admin,
    /// Uses it.
    #[default]
    Member,
}

impl Owner {
    pub(crate) fn organization_id(&self) -> Option<&str> {
        match self {
            Self::Person { .. } => None,
            Self::Organization { id, .. } => Some(id),
        }
    }

    pub(crate) fn members(&self) -> &[Member] {
        match self {
            Self::Person { .. } => &[],
            Self::Organization { members, .. } => members,
        }
    }

    /// The creator of a key if the request names none.
    pub(crate) fn default_creator(&self) -> Option<String> {
        match self {
            Self::Person { user_id } => Some(user_id.clone()),
            Self::Organization { .. } => None,
        }
    }
}

impl Member {
    /// A row of `GET /organization/members`.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.user_id,
            "first_name": null,
            "last_name": null,
            "email": self.email,
            "role": match self.role {
                MemberRole::Admin => "org:admin",
                MemberRole::Member => "org:member",
            },
        })
    }
}

impl AccountState {
    /// The member of the organization that a key belongs to.
    pub(crate) fn member_of<'a>(&self, key: &'a Key) -> Option<&'a str> {
        let creator = key.creator_user_id.as_deref()?;
        let mut members = self.owner.members().iter();
        members
            .any(|member| member.user_id == creator)
            .then_some(creator)
    }
}
