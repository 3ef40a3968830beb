//! Leased secrets of an engine: how they are renewed and revoked.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::path::Outcome;
use crate::logical::{Data, Error, Lease, LeasedSecret, Rendered, Request, Secret};

/// A type of leased secret of an engine `E`.
pub struct SecretType<E> {
    pub(super) name: &'static str,
    pub(super) renew: Option<LeaseHandler<E>>,
    pub(super) revoke: LeaseHandler<E>,
}

impl<E: Send + Sync + 'static> SecretType<E> {
    /// A type that cannot be renewed. `revoke` must succeed if there is nothing left to revoke.
    pub fn new<F, Fut>(name: &'static str, revoke: F) -> Self
    where
        F: Fn(Arc<E>, LeasedSecret) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Self {
            name,
            renew: None,
            revoke: Arc::new(move |engine, secret| Box::pin(revoke(engine, secret))),
        }
    }

    /// The same type, renewed by `renew`. Its answer must contain the secret with its internal data,
    /// because the server stores that answer.
    pub fn renewed_by<F, Fut>(mut self, renew: F) -> Self
    where
        F: Fn(Arc<E>, LeasedSecret) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.renew = Some(Arc::new(move |engine, secret| {
            Box::pin(renew(engine, secret))
        }));
        self
    }
}

/// A secret of the type `name`, for a response.
pub fn under_lease(name: &'static str, lease: Lease, internal_data: Data) -> Secret {
    Secret {
        lease,
        internal_data: typed(name, internal_data),
        rendered: None,
    }
}

/// The internal data of secrets of the type `name`, rendered once for all that have the same.
pub fn lease_data(name: &'static str, internal_data: Data) -> Rendered {
    typed(name, internal_data).into()
}

/// A secret with such internal data, for a response.
pub fn under_lease_with(lease: Lease, internal_data: Rendered) -> Secret {
    Secret {
        lease,
        internal_data: Data::new(),
        rendered: Some(internal_data),
    }
}

fn typed(name: &'static str, mut internal_data: Data) -> Data {
    internal_data.insert(SECRET_TYPE.to_owned(), name.into());
    internal_data
}

/// The lease of a renewal or revocation, and the name of its type.
pub(super) fn of(request: Request) -> Result<(String, LeasedSecret), Error> {
    let secret = request
        .secret
        .ok_or_else(|| Error::internal("the request contains no lease"))?;
    match secret
        .internal_data
        .get(SECRET_TYPE)
        .and_then(|name| name.as_str())
    {
        Some(name) => Ok((name.to_owned(), secret)),
        None => Err(Error::internal("the lease does not name its secret type")),
    }
}

pub(super) type LeaseHandler<E> =
    Arc<dyn Fn(Arc<E>, LeasedSecret) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// The key under which Vault's own framework stores a lease's type.
const SECRET_TYPE: &str = "secret_type";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::sample::data;
    use super::*;
    use crate::logical::Operation;

    const LEASE: Lease = Lease {
        ttl: Duration::from_secs(60),
        max_ttl: Duration::ZERO,
        renewable: true,
    };

    fn revocation(internal_data: Option<Data>) -> Request {
        let mut request = Request::new(Operation::Revoke, "notes/old");
        request.secret = internal_data.map(|internal_data| LeasedSecret {
            internal_data,
            issued_at: 5,
            ttl: LEASE.ttl,
            increment: Duration::ZERO,
        });
        request
    }

    #[test]
    fn a_lease_comes_back_to_the_kind_that_issued_it_with_its_data() {
        let secret = under_lease("lent", LEASE, data(json!({ "note": "old" })));
        assert_eq!(secret.lease, LEASE);
        let (kind, returned) = of(revocation(Some(secret.internal_data))).unwrap();
        assert_eq!(kind, "lent");
        assert_eq!(returned.internal_data["note"], "old");
        assert_eq!((returned.issued_at, returned.ttl), (5, LEASE.ttl));
    }

    #[test]
    fn internal_data_that_was_rendered_before_is_the_same() {
        let note = || data(json!({ "note": "old" }));
        let secret = under_lease_with(LEASE, lease_data("lent", note()));
        assert_eq!(secret.unfolded(), under_lease("lent", LEASE, note()));
    }

    #[test]
    fn the_kind_is_kept_where_vaults_own_engines_keep_it() {
        let secret = under_lease("lent", LEASE, Data::new());
        assert_eq!(secret.internal_data["secret_type"], "lent");
    }

    #[test]
    fn a_lease_that_does_not_say_its_kind_is_a_fault() {
        for internal_data in [
            None,
            Some(Data::new()),
            Some(data(json!({ "secret_type": null }))),
        ] {
            let refusal = of(revocation(internal_data)).unwrap_err();
            assert!(matches!(refusal, Error::Internal(_)), "{refusal:?}");
        }
    }
}
