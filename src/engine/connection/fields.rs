//! The fields of a connection, and how a write changes one.

use secrecy::ExposeSecret;

use super::entry::every_hour;
use crate::engine::connection::{Bounds, Connection};
use crate::engine::error::Error;
use crate::framework::{Field, Fields};
use crate::openrouter::{ApiUrl, CaBundle, ProxyUrl, Usd};

/// The fields of a write.
pub const WRITE: &[Field] = &[
    Field::secret(
        "management_key",
        "The OpenRouter management key. Never returned. Required to change api_url, proxy_url or\n\
         ca_certificate: a stored key is sent only to the address it was written for.",
    )
    .required(),
    Field::text(
        "api_url",
        "The URL of OpenRouter's API. Plain http is only allowed for loopback addresses.",
    )
    .default(API_URL),
    Field::text("description", "A description, shown on read."),
    Field::duration(
        "request_timeout",
        "The time limit of one request to OpenRouter, 1 to 60 seconds.",
    )
    .default("30s"),
    Field::duration(
        "reconcile_interval",
        "How often the managed keys are compared with those at OpenRouter, at least 1 minute. 0\n\
         compares them only when the engine starts.",
    )
    .default("1h"),
    Field::lines(
        "ca_certificate",
        "Certificates to trust in addition to the system's, in PEM format, for an egress proxy\n\
         that terminates TLS. An empty value clears it.",
    )
    .nullable(),
    Field::secret(
        "proxy_url",
        "The URL of the proxy for requests to OpenRouter, http:// or https://, with credentials\n\
         if required. An empty value clears it. The proxy settings of the environment are\n\
         ignored.",
    )
    .nullable(),
    Field::list(
        "allowed_roles",
        "The names of the roles that may use the connection. * matches any text. A list that\n\
         excludes a role in use is rejected.",
    )
    .default("*"),
    Field::number(
        "max_limit",
        "The highest limit that a role using the connection may have, in US dollars; with a\n\
         budget, the highest budget. A role with neither is then rejected. An empty value\n\
         means no maximum.",
    )
    .nullable(),
    Field::duration(
        "max_key_lifetime",
        "The longest lifetime that the keys of a role using the connection may have. An empty\n\
         value means no maximum.",
    )
    .nullable(),
    Field::switch(
        "verify_connection",
        "Whether to verify the management key with OpenRouter before anything is stored.",
    )
    .default("true"),
    Field::switch(
        "force",
        "Replace the management key even if the new one does not see the keys that this engine\n\
         manages. Those keys can then no longer be revoked.",
    )
    .default("false"),
];

/// The connection after a write to `before`. Fields that are not in the request are unchanged.
pub fn apply(before: Option<&Connection>, fields: &Fields) -> Result<Connection, Error> {
    let management_key = match (fields.secret("management_key"), before) {
        (Some(key), _) if key.expose_secret().is_empty() => return Err(no_key()),
        (Some(key), _) => key.clone(),
        (None, Some(before)) => before.management_key.clone(),
        (None, None) => return Err(no_key()),
    };
    let request_timeout = match (fields.seconds("request_timeout"), before) {
        // At most a minute: a rotation makes at least two requests, and Vault's clients give up on a
        // request after 60 seconds by default, Vault itself after 90.
        (Some(seconds), _) if !(1..=60).contains(&seconds) => {
            return Err(Error::invalid(
                "request_timeout must be between 1 and 60 seconds",
            ));
        }
        (Some(seconds), _) => seconds,
        (None, Some(before)) => before.request_timeout,
        (None, None) => REQUEST_TIMEOUT,
    };
    let reconcile_interval = match fields.seconds("reconcile_interval") {
        Some(seconds) if (1..60).contains(&seconds) => {
            return Err(Error::invalid(
                "reconcile_interval must be at least 1 minute, or 0 to reconcile only when the engine \
                 starts",
            ));
        }
        Some(seconds) => seconds,
        None => before.map_or_else(every_hour, |b| b.reconcile_interval),
    };
    let api_url = match (fields.text("api_url"), before) {
        (Some(url), _) => ApiUrl::parse(url).map_err(|e| naming("api_url", &e))?,
        (None, Some(before)) => before.api_url.clone(),
        (None, None) => ApiUrl::parse(API_URL)?,
    };
    Ok(Connection {
        management_key,
        api_url,
        request_timeout,
        reconcile_interval,
        description: match fields.text("description") {
            Some(text) => text.to_owned(),
            None => before.map(|b| b.description.clone()).unwrap_or_default(),
        },
        ca_certificate: match fields.text("ca_certificate") {
            Some(pem) => Some(CaBundle::parse(pem).map_err(|e| naming("ca_certificate", &e))?),
            None if fields.is_null("ca_certificate") => None,
            None => before.and_then(|b| b.ca_certificate.clone()),
        },
        proxy_url: match fields.secret("proxy_url") {
            Some(url) => {
                let url = ProxyUrl::parse(url.expose_secret());
                Some(url.map_err(|e| naming("proxy_url", &e))?)
            }
            None if fields.is_null("proxy_url") => None,
            None => before.and_then(|b| b.proxy_url.clone()),
        },
        proof: before.and_then(|b| b.proof.clone()),
        address: before.map(|b| b.address.clone()).unwrap_or_default(),
        bounds: bounds(before.map(|b| &b.bounds), fields)?,
    })
}

fn bounds(before: Option<&Bounds>, fields: &Fields) -> Result<Bounds, Error> {
    let before = before.cloned().unwrap_or_default();
    Ok(Bounds {
        allowed_roles: match fields.list("allowed_roles") {
            Some([]) => {
                return Err(Error::invalid(
                    "allowed_roles must name at least one role; * allows every role",
                ));
            }
            Some(names) => allowed_roles(names)?,
            None => before.allowed_roles,
        },
        max_limit: match fields.number("max_limit") {
            Some(amount) => Some(Usd::positive(amount).map_err(|_| {
                Error::invalid("max_limit must be more than 0 US dollars, or empty for none")
            })?),
            None if fields.is_null("max_limit") => None,
            None => before.max_limit,
        },
        max_key_lifetime: match fields.seconds("max_key_lifetime") {
            Some(0) => {
                return Err(Error::invalid(
                    "max_key_lifetime must be more than 0 seconds, or empty for none",
                ));
            }
            Some(seconds) => Some(seconds),
            None if fields.is_null("max_key_lifetime") => None,
            None => before.max_key_lifetime,
        },
    })
}

/// The characters of role names, and `*`.
fn allowed_roles(names: &[String]) -> Result<Vec<String>, Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.*".contains(c);
    match names.iter().find(|name| !name.chars().all(fits)) {
        None => Ok(names.to_vec()),
        Some(name) => Err(Error::Invalid(format!(
            "allowed_roles must be role names, in which * matches any text; {name:?} is not valid"
        ))),
    }
}

fn no_key() -> Error {
    Error::invalid("management_key is required: an OpenRouter management key")
}

fn naming(field: &str, reason: &impl std::fmt::Display) -> Error {
    Error::Invalid(format!("{field}: {reason}"))
}

const API_URL: &str = "https://openrouter.ai/api/v1";
const REQUEST_TIMEOUT: u64 = 30;
