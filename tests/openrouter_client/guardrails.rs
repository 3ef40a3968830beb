//! Guardrails and their assignments, workspaces, members: against the simulator.

use std::collections::BTreeMap;

use openrouter_simulator::{Account, MemberRole, NewGuardrail, NewKey};
use vault_plugin_secrets_openrouter::openrouter::{
    Error, GuardrailId, KeyHash, WorkspaceId, WorkspaceRef,
};

use super::{new_key, simulator};

fn guardrail(account: &Account, name: &str) -> GuardrailId {
    GuardrailId::parse(&account.add_guardrail(NewGuardrail::named(name))).unwrap()
}

fn key(account: &Account, name: &str) -> KeyHash {
    KeyHash::parse(&account.create_key(NewKey::named(name)).hash).unwrap()
}

#[tokio::test]
async fn guardrails_are_listed_by_workspace_over_all_pages() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    let mut made: Vec<_> = (0..205)
        .map(|number| guardrail(account, &format!("g{number}")))
        .collect();
    let elsewhere = account.add_workspace();
    let other = NewGuardrail {
        workspace_id: Some(elsewhere.clone()),
        ..NewGuardrail::named("other")
    };
    let other = account.add_guardrail(other);
    let mut listed: Vec<_> = client.guardrails(None).await.unwrap();
    listed.sort_by(|one, two| one.id.cmp(&two.id));
    made.sort();
    let ids: Vec<_> = listed.into_iter().map(|one| one.id).collect();
    assert_eq!(ids, made, "each once");
    let workspace = WorkspaceId::parse(&elsewhere).unwrap();
    let there = client.guardrails(Some(&workspace)).await.unwrap();
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].id.as_str(), other);
    let one = client.guardrail(&there[0].id).await.unwrap();
    assert_eq!(one, there[0]);
    assert_eq!(
        (one.name.as_str(), one.workspace_id),
        ("other", Some(workspace))
    );
    account.delete_guardrail(&other).unwrap();
    let gone = client.guardrail(&there[0].id).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone}");
}

#[tokio::test]
async fn keys_are_assigned_and_counted_and_found_to_be() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    let (one, two) = (guardrail(account, "one"), guardrail(account, "two"));
    let (a, b) = (key(account, "a"), key(account, "b"));
    let unknown = KeyHash::parse(&"0".repeat(64)).unwrap();
    let keys = [a.clone(), b.clone(), unknown.clone()];
    assert_eq!(client.assign(&one, &keys).await, Ok(2));
    let expected = |pairs: &[(&KeyHash, &GuardrailId)]| -> BTreeMap<KeyHash, GuardrailId> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, id)| ((*key).clone(), (*id).clone()))
            .collect()
    };
    let all = expected(&[(&a, &one), (&b, &one), (&unknown, &one)]);
    let missing = client.unassigned(&all).await.unwrap();
    assert_eq!(missing, [unknown].into());
    client.assign(&two, std::slice::from_ref(&b)).await.unwrap();
    let missing = client
        .unassigned(&expected(&[(&a, &one), (&b, &one)]))
        .await;
    assert_eq!(missing.unwrap(), [b.clone()].into(), "it has another now");
    let missing = client
        .unassigned(&expected(&[(&a, &one), (&b, &two)]))
        .await;
    assert_eq!(missing.unwrap(), [].into());
    account.delete_guardrail(one.as_str()).unwrap();
    let missing = client.unassigned(&expected(&[(&a, &one)])).await;
    assert_eq!(missing.unwrap(), [a.clone()].into());
    let refused = client.assign(&one, &[a]).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { .. }), "{refused}");
}

#[tokio::test]
async fn a_new_key_is_found_after_two_pages_however_many_were_deleted_before_it() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    let strict = guardrail(account, "strict");
    for number in 0..450 {
        let hash = key(account, &format!("old {number}"));
        account
            .assign_guardrail(hash.as_str(), strict.as_str())
            .unwrap();
        account.delete_key(hash.as_str()).unwrap();
    }
    let new = client.create_key(&new_key("new")).await.unwrap().key.hash;
    client
        .assign(&strict, std::slice::from_ref(&new))
        .await
        .unwrap();
    simulator.requests().reset();
    let expected = [(new, strict)].into();
    assert_eq!(client.unassigned(&expected).await.unwrap(), [].into());
    assert_eq!(simulator.requests().all().len(), 2);
    let (other, strict) = (
        key(account, "other"),
        expected.into_values().next().unwrap(),
    );
    simulator.requests().reset();
    let missing = client.unassigned(&[(other.clone(), strict)].into()).await;
    assert_eq!(missing.unwrap(), [other].into());
    assert_eq!(simulator.requests().all().len(), 5, "all pages, each once");
}

#[tokio::test]
async fn a_key_says_which_guardrail_with_a_budget_it_is_held_to() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    let with_budget = NewGuardrail {
        limit_usd: Some(5.0),
        reset_interval: Some(openrouter_simulator::LimitReset::Daily),
        ..NewGuardrail::named("budget")
    };
    let id = GuardrailId::parse(&account.add_guardrail(with_budget)).unwrap();
    let created = client.create_key(&new_key("app")).await.unwrap();
    let before = client.current_key(&created.secret).await.unwrap();
    assert_eq!(before.guardrails, []);
    client.assign(&id, &[created.key.hash]).await.unwrap();
    let held = client.current_key(&created.secret).await.unwrap();
    assert_eq!(held.guardrails, [id]);
}

#[tokio::test]
async fn workspaces_are_listed_and_looked_up_by_slug_and_uuid() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    let id = account.add_named_workspace("Team 7", "team-7").unwrap();
    for called in ["team-7", &id] {
        let called = WorkspaceRef::parse(called).unwrap();
        let found = client.workspace(&called).await.unwrap();
        assert_eq!(
            (found.id.as_str(), found.slug.as_str()),
            (id.as_str(), "team-7")
        );
        let default = account.workspace(&id).unwrap().default_guardrail_id();
        assert_eq!(found.default_guardrail_id.unwrap().as_str(), default);
    }
    let unknown = WorkspaceRef::parse("nobody").unwrap();
    let unknown = client.workspace(&unknown).await.unwrap_err();
    assert!(matches!(unknown, Error::NotFound { .. }), "{unknown}");
    let all = client.workspaces().await.unwrap();
    let ids: Vec<_> = all.iter().map(|one| one.id.as_str().to_owned()).collect();
    assert_eq!(ids, account.workspaces());
}

#[tokio::test]
async fn only_an_organization_has_members() {
    let (simulator, client) = simulator().await;
    let account = simulator.account();
    assert_eq!(client.members().await.unwrap(), None);
    account.become_organization();
    let id = account
        .add_member("a@example.com", MemberRole::Member)
        .unwrap();
    assert_eq!(client.members().await.unwrap(), Some(vec![id]));
}
