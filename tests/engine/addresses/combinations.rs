//! Every combination of changed fields of a connection, after every way to prepare one, with a foreign server
//! that listens as API, as proxy, and on the way to OpenRouter. It is sent no secret that was stored before.

use openrouter_simulator::Simulator;
use serde_json::{Value, json};
use vault_plugin_secrets_openrouter::logical::Storage;

use super::both;
use super::thief::{Manner, Road, Thief};
use crate::harness::{CI, ROLE, ROTATE, World, role};

#[tokio::test]
async fn no_change_of_a_connection_leads_a_stored_secret_elsewhere() {
    every_combination(Preparation::None).await;
}

#[tokio::test]
async fn nor_after_the_management_key_was_replaced_without_verification() {
    every_combination(Preparation::UnverifiedKey).await;
}

#[tokio::test]
async fn nor_after_it_was_replaced_by_force() {
    every_combination(Preparation::ForcedKey).await;
}

#[tokio::test]
async fn nor_after_the_connection_was_moved_with_another_management_key() {
    every_combination(Preparation::Move).await;
}

#[tokio::test]
async fn nor_after_the_connection_was_forgotten() {
    every_combination(Preparation::Forgotten).await;
}

/// The control: the foreign server would hear the secrets.
#[tokio::test]
async fn the_stored_management_key_leads_every_secret_elsewhere() {
    for number in 1..MANAGEMENT_KEY {
        let scene = Scene::set(Preparation::None, Manner::Denies).await;
        let known = scene.world.openrouter.management_key();
        let mut change = scene.change(number);
        change["management_key"] = json!(known);
        change["verify_connection"] = json!(false);
        scene.world.write("config", change.clone()).await.unwrap();
        scene.go_on().await;
        let heard = scene.thief.heard();
        let is_plain = number & (API_URL | CA_CERTIFICATE) != 0;
        for secret in &scene.secrets[..2] {
            assert_eq!(heard.contains(secret), is_plain, "{change}: {heard}");
        }
    }
}

/// What the caller has done before the change, with a management key of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preparation {
    None,
    /// The connection has that key. Nobody has verified it.
    UnverifiedKey,
    /// The connection has that key, which belongs to another account.
    ForcedKey,
    /// The connection has that key, and an address where nobody listens.
    Move,
    /// There is no connection any more; its roles are left.
    Forgotten,
}

async fn every_combination(preparation: Preparation) {
    refuses_all_without_a_management_key(preparation).await;
    let mut accepted = 0;
    for number in all().filter(|number| number & MANAGEMENT_KEY != 0) {
        // Where another account would be refused, the foreign server claims to be the right one.
        let manner = match number & (UNVERIFIED | FORCE) {
            0 => Manner::Claims,
            _ => Manner::Denies,
        };
        accepted += usize::from(try_it(preparation, manner, number).await);
    }
    assert!(
        accepted >= 16,
        "{accepted} changes of the address were made"
    );
}

async fn refuses_all_without_a_management_key(preparation: Preparation) {
    let scene = Scene::set(preparation, Manner::Denies).await;
    let (world, thief) = (&scene.world, &scene.thief);
    let before = world.storage.get("config/default").await.unwrap();
    let leads_elsewhere = |number: &u32| number & (API_URL | PROXY_URL | CA_CERTIFICATE) != 0;
    let without_key = all().filter(|number| number & MANAGEMENT_KEY == 0);
    for number in without_key.filter(leads_elsewhere) {
        let change = scene.change(number);
        let written = world.write("config", change.clone()).await;
        let refusal = written.unwrap_err().to_string();
        let is_expected = refusal.contains("management_key is required");
        assert!(is_expected, "{preparation:?}, {change}: {refusal}");
        let stored = world.storage.get("config/default").await.unwrap();
        assert_eq!(stored, before, "{preparation:?}, {change}");
    }
    assert_eq!(thief.heard(), "");
}

/// Makes a change, and everything that the engine does about its keys. Returns whether the change was accepted
/// and leads elsewhere.
async fn try_it(preparation: Preparation, manner: Manner, number: u32) -> bool {
    if preparation == Preparation::Forgotten && number & API_URL == 0 {
        // That is OpenRouter's own address.
        return false;
    }
    let scene = Scene::set(preparation, manner).await;
    let (world, thief, change) = (&scene.world, &scene.thief, scene.change(number));
    let place = format!("{preparation:?}, {manner:?}, {change}");
    let written = world.write("config", change).await;
    scene.go_on().await;
    let heard = thief.heard();
    for secret in &scene.secrets {
        assert!(!heard.contains(secret), "{place}: {heard}");
    }
    // The address where nobody listens has no TLS.
    let is_plain = preparation == Preparation::Move;
    let trusted = if is_plain { 0 } else { CA_CERTIFICATE };
    let is_asked = number & (API_URL | PROXY_URL | trusted) != 0;
    assert_eq!(!heard.is_empty(), is_asked, "{place}: {heard}");
    is_asked && written.is_ok()
}

/// A connection along a road on which the thief lies in wait, roles with keys, and a caller who may write the
/// connection and does not know its management key.
struct Scene {
    world: World,
    thief: Thief,
    _road: Road,
    /// The management key of the caller.
    own: String,
    /// What the thief must not hear: the keys that are in service, the superseded one, the management key.
    secrets: Vec<String>,
}

impl Scene {
    async fn set(preparation: Preparation, manner: Manner) -> Self {
        let world = World::empty().await;
        let road = Road::to_openrouter(&world).await;
        let known = world.openrouter.management_key().to_owned();
        let fields = both(&road.fields(), &json!({ "management_key": known }));
        world.write("config", fields).await.unwrap();
        let mut secrets = keys_of_roles(&world).await;
        secrets.push(known.clone());

        let thief = Thief::in_the_manner(manner, &world).await;
        let own = match preparation {
            Preparation::ForcedKey => management_key_of_another(&world.openrouter),
            _ => "sk-or-v1-the-thiefs-own".to_owned(),
        };
        thief.passes_off(&own, &known);
        match preparation {
            Preparation::None => {}
            Preparation::UnverifiedKey => {
                let body = json!({"management_key": own, "verify_connection": false});
                world.write("config", body).await.unwrap();
            }
            Preparation::ForcedKey => {
                let body = json!({"management_key": own, "force": true});
                world.write("config", body).await.unwrap();
            }
            Preparation::Move => {
                let nowhere = "http://127.0.0.1:1/api/v1";
                let body = json!({"management_key": own, "verify_connection": false,
                    "api_url": nowhere});
                world.write("config", body).await.unwrap();
            }
            Preparation::Forgotten => {
                let forget = "forget-connection/default";
                world.write(forget, json!({})).await.unwrap();
            }
        }
        road.waylay(&thief);
        Self {
            world,
            thief,
            _road: road,
            own,
            secrets,
        }
    }

    /// The change with this number.
    fn change(&self, number: u32) -> Value {
        let fields = [
            (
                API_URL,
                "api_url",
                json!(format!("{}/api/v1", self.thief.url)),
            ),
            (PROXY_URL, "proxy_url", json!(self.thief.url)),
            (
                CA_CERTIFICATE,
                "ca_certificate",
                json!(self.thief.certificate()),
            ),
            (MANAGEMENT_KEY, "management_key", json!(self.own)),
            (UNVERIFIED, "verify_connection", json!(false)),
            (FORCE, "force", json!(true)),
        ];
        let chosen = fields.into_iter().filter(|(bit, ..)| number & bit != 0);
        chosen
            .map(|(_, name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Everything in which the engine could send a key.
    async fn go_on(&self) {
        let world = &self.world;
        world.restart().await;
        world.quiet().await;
        for role in ["app", "spender"] {
            let _ = world.read(&format!("usage/{role}")).await;
            let _ = world.write(&format!("rotate-role/{role}"), json!({})).await;
        }
        let _ = world
            .write("lookup", json!({"api_key": self.secrets[0]}))
            .await;
        let _ = world.write("rotate-all/default", json!({})).await;
        world.pass(4_000).await;
        let _ = world.delete(ROLE, json!({})).await;
    }
}

/// Makes keys of every kind, and returns the secrets that are stored: the current keys first.
async fn keys_of_roles(world: &World) -> Vec<String> {
    world.write(ROLE, role()).await.unwrap();
    let superseded = world.secret("app").await;
    world.write(ROTATE, json!({})).await.unwrap();
    let mut spender = role();
    spender["limit"] = Value::Null;
    spender["budget"] = json!(100);
    world.write("roles/spender", spender).await.unwrap();
    let dynamic = json!({"credential_type": "dynamic"});
    world.write(CI, dynamic).await.unwrap();
    let lease = world.lease().await.unwrap()["api_key"].clone();
    world.quiet().await;
    vec![
        world.secret("app").await,
        world.secret("spender").await,
        superseded,
        lease.as_str().unwrap().to_owned(),
    ]
}

fn management_key_of_another(openrouter: &Simulator) -> String {
    openrouter.add_account().add_management_key()
}

/// The numbers of all changes.
fn all() -> std::ops::Range<u32> {
    1..1 << 6
}

const API_URL: u32 = 1;
const PROXY_URL: u32 = 2;
const CA_CERTIFICATE: u32 = 4;
const MANAGEMENT_KEY: u32 = 8;
const UNVERIFIED: u32 = 16;
const FORCE: u32 = 32;
