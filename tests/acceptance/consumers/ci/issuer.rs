//! Signs ID tokens as GitHub and GitLab do: an OpenID Connect issuer with its own key.

use std::net::SocketAddr;

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An issuer. Ended when dropped.
pub(crate) struct Issuer {
    key: KeyPair,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let public = json!({"keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": KEY_ID,
            "x": URL_SAFE_NO_PAD.encode(key.der_bytes()),
        }]});
        let url = format!("http://{address}");
        let description = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/keys"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", answer(description))
            .route("/keys", answer(public));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self {
            key,
            address,
            server,
        }
    }

    /// Its URL, which is also its name.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A token for a job.
    pub(crate) fn token(&self, subject: &str, audience: &str) -> String {
        self.token_in_the_name_of(self, subject, audience)
    }

    /// A token that claims to be from another issuer.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server compares with its own clock, the machine's"
    )]
    pub(crate) fn token_in_the_name_of(
        &self,
        other: &Self,
        subject: &str,
        audience: &str,
    ) -> String {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": other.url(),
            "sub": subject,
            "aud": audience,
            "iat": now,
            "nbf": now - 5,
            "exp": now + 3_600,
        });
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": KEY_ID});
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = self.key.sign(signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn answer(body: Value) -> axum::routing::MethodRouter {
    get(async move || Json(body.clone()))
}

const KEY_ID: &str = "test";
