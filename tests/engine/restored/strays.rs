//! Keys with a role's mark that storage does not know, in any number, and lookups that fail.

use openrouter_simulator::{Fault, NewKey};
use serde_json::{Value, json};

use crate::harness::{FORGET, ROLE, ROTATE, World, hashes};

/// Creates this many keys outside the engine that have the role's mark, and are older than its current key.
async fn forgotten_keys(world: &World, count: usize) -> Vec<String> {
    let own = world.key("app").await.unwrap();
    let own = own["key_name"].as_str().unwrap();
    let marked = &own[..own.len() - 16];
    let make = |number| {
        let name = format!("{marked}{number:016x}");
        let new = NewKey {
            name,
            ..NewKey::default()
        };
        world.openrouter.account().create_key(new).hash
    };
    (0..count).map(make).collect()
}

/// The current key is deleted in OpenRouter's dashboard.
async fn lose_the_current_key(world: &World) -> String {
    let role = world.role("app").await.unwrap();
    let hash = role["current_key"]["hash"].as_str().unwrap().to_owned();
    world.openrouter.account().delete_key(&hash).unwrap();
    hash
}

fn alive(world: &World) -> usize {
    world.openrouter.account().keys().len()
}

#[tokio::test]
async fn any_number_of_them_is_taken_in_and_a_current_key_that_is_gone_is_noticed() {
    for count in [0, 150, 300] {
        let world = World::with_role().await;
        forgotten_keys(&world, count).await;
        let gone = lose_the_current_key(&world).await;
        world.restart().await;
        world.quiet().await;
        let key = world.key("app").await.unwrap();
        assert_ne!(key["key_hash"], gone.as_str(), "{count} strays");
        assert_eq!(alive(&world), count + 1);
        world.pass(599).await;
        assert_eq!(alive(&world), count + 1, "somebody may hold them");
        world.pass(2).await;
        assert_eq!(alive(&world), 1, "{count} strays");
        assert_eq!(world.violations().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_current_key_that_is_gone_is_noticed_although_the_others_cannot_be_looked_up() {
    let world = World::with_role().await;
    let strays = forgotten_keys(&world, 20).await;
    let gone = lose_the_current_key(&world).await;
    let faults = world.openrouter.faults();
    // By hash: all except the current key, which is checked first.
    for stray in &strays {
        let path = format!("/keys/{stray}");
        faults.add(Fault::status(503).on("GET", &path).forever());
    }
    world.restart().await;
    world.quiet().await;
    let key = world.key("app").await.unwrap();
    assert_ne!(key["key_hash"], gone.as_str());
    assert_eq!(key["key_version"], 2);
    faults.clear();
    world.pass(60).await;
    let known = hashes(&world.role("app").await.unwrap());
    assert!(strays.iter().all(|stray| known.contains(stray)));
    world.pass(601).await;
    assert_eq!(world.violations().await, [""; 0]);
}

/// OpenRouter's faults while the keys are compared.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Every third of the strays cannot be looked up at first.
    SomeLookups,
    /// None of the strays can be looked up for minutes.
    AllLookups,
    /// The second page of a list fails, or the first list, if it has one page.
    APage,
    /// The first lookups are rate limited.
    RateLimited,
    /// The current key, which is gone, cannot be looked up at first.
    TheCurrentKey,
}

impl Trouble {
    /// How many strays to try: around the end of a page, which also contains one other key, and over several
    /// pages where that makes a difference.
    fn counts(self) -> Vec<usize> {
        let mut counts = vec![1, 98, 99, 101];
        if matches!(self, Self::SomeLookups | Self::APage) {
            counts.push(300);
        }
        counts
    }

    fn begins(self, world: &World, gone: &str, strays: &[String]) {
        let faults = world.openrouter.faults();
        let unavailable = || Fault::status(503);
        let lookup = |hash: &str| format!("/keys/{hash}");
        match self {
            Self::SomeLookups => {
                for stray in strays.iter().step_by(3) {
                    faults.add(unavailable().on("GET", &lookup(stray)));
                }
            }
            Self::AllLookups => {
                for stray in strays {
                    faults.add(unavailable().on("GET", &lookup(stray)).forever());
                }
            }
            Self::APage => {
                let nth = if strays.len() >= 99 { 2 } else { 1 };
                faults.add(unavailable().on("GET", "/keys").nth(nth));
            }
            Self::RateLimited => {
                faults.add(Fault::rate_limited(30).on("GET", "/keys/*").times(2));
            }
            Self::TheCurrentKey => faults.add(unavailable().on("GET", &lookup(gone)).times(2)),
        }
    }
}

#[tokio::test]
async fn any_number_of_them_ends_whatever_fails_meanwhile() {
    let troubles = [
        Trouble::SomeLookups,
        Trouble::AllLookups,
        Trouble::APage,
        Trouble::RateLimited,
        Trouble::TheCurrentKey,
    ];
    for trouble in troubles {
        for count in trouble.counts() {
            let case = format!("{count} strays, {trouble:?}");
            let world = World::with_role().await;
            let strays = forgotten_keys(&world, count).await;
            let gone = lose_the_current_key(&world).await;
            trouble.begins(&world, &gone, &strays);
            // The key that replaces the lost one is younger than the strays.
            world.time.set(world.after(1));
            world.restart().await;
            world.pass(120).await;
            let key = world.key("app").await.expect(&case);
            assert_ne!(key["key_hash"], gone.as_str(), "{case}");
            world.openrouter.faults().clear();
            world.pass(180).await;
            let known = hashes(&world.role("app").await.unwrap());
            assert!(strays.iter().all(|stray| known.contains(stray)), "{case}");
            assert_eq!(alive(&world), count + 1, "somebody may hold them: {case}");
            world.pass(601).await;
            assert_eq!(alive(&world), 1, "{case}");
            assert_eq!(world.violations().await, [""; 0], "{case}");
        }
    }
}

#[tokio::test]
async fn one_lookup_that_fails_costs_only_the_key_that_it_was_about() {
    let world = World::with_role().await;
    let strays = forgotten_keys(&world, 5).await;
    let path = format!("/keys/{}", strays[2]);
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("GET", &path).forever());
    world.restart().await;
    world.quiet().await;
    let known = hashes(&world.role("app").await.unwrap());
    for (number, stray) in strays.iter().enumerate() {
        assert_eq!(known.contains(stray), number != 2, "stray {number}");
    }
    faults.clear();
    world.pass(60).await;
    let known = hashes(&world.role("app").await.unwrap());
    assert!(known.contains(&strays[2]), "it is asked about again");
}

/// Somebody may use it, and only OpenRouter can tell.
#[tokio::test]
async fn one_of_which_nobody_knows_whether_it_is_in_use_does_not_end() {
    let world = World::with_role().await;
    let stray = forgotten_keys(&world, 1).await.remove(0);
    world.restart().await;
    world.quiet().await;
    let path = format!("/keys/{stray}");
    let faults = world.openrouter.faults();
    faults.add(Fault::status(503).on("GET", &path).forever());
    world.pass(700).await;
    assert!(world.lives(&stray));
    let role = world.role("app").await.unwrap();
    let why = role["superseded_keys"][0]["revocation_error"].as_str();
    assert!(why.unwrap().contains("not known whether key"), "{why:?}");
    faults.clear();
    world.pass(600).await;
    assert!(!world.lives(&stray));
    assert_eq!(world.violations().await, [""; 0]);
}

#[tokio::test]
async fn a_hundred_of_them_hold_up_no_rotation() {
    let world = World::with_role().await;
    forgotten_keys(&world, 101).await;
    world.restart().await;
    world.quiet().await;
    world.write(ROTATE, Value::Null).await.unwrap();
    assert_eq!(world.broken_promises(), [""; 0]);
}

#[tokio::test]
async fn keys_left_behind_are_not_taken_in_by_a_new_role_of_the_name() {
    for revoke_keys in [true, false] {
        let world = World::with_role().await;
        let refused = Fault::status(503).on("DELETE", "/keys/*").forever();
        world.openrouter.faults().add(refused);
        let body = json!({ "revoke_keys": revoke_keys });
        let answer = world.write(FORGET, body).await.unwrap().unwrap();
        let left = answer.data["keys_left_behind"][0].as_str().unwrap();
        world.openrouter.faults().clear();
        let body = json!({"rotation_period": 36_000, "rotation_grace_period": 600, "ttl": 300});
        world.write(ROLE, body).await.unwrap();
        world.restart().await;
        world.pass(700).await;
        let key = world.openrouter.account().key(left).unwrap();
        assert_eq!(key.deleted_at, None);
        assert_eq!(hashes(&world.role("app").await.unwrap()).len(), 1);
    }
}
