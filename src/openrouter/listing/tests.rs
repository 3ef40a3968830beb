//! Which entries of a listing are keys, and which keys match.

use serde_json::json;

use super::*;

fn words(words: &[&str]) -> HashSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn find_in(whole: Value, nonces: &[&str]) -> Result<Option<Key>, Error> {
    matching(ListedKey::of(whole)?, &words(nonces))
}

#[test]
fn a_key_of_somebody_else_may_be_as_odd_as_it_likes() {
    for odd in [
        json!({"name": "no hash"}),
        json!({"name": "odd hash", "hash": 5}),
        json!({"name": "no hash of ours", "hash": "x", "limit": "five", "disabled": "no"}),
        json!({"name": null, "hash": "0"}),
    ] {
        assert_eq!(find_in(odd.clone(), &["vault-1"]), Ok(None), "{odd}");
    }
}

#[test]
fn a_key_that_may_be_the_one_but_cannot_be_read_is_an_error() {
    for odd in [
        json!({"name": "app vault-1"}),
        json!({"name": "app vault-1", "hash": "zz"}),
        json!({"name": ["app vault-1"], "hash": "0"}),
        json!("app vault-1"),
        json!(null),
    ] {
        let refused = find_in(odd.clone(), &["vault-1"]);
        assert!(refused.is_err_and(|error| !error.is_definite()), "{odd}");
    }
}

#[test]
fn each_of_several_nonces_is_looked_for() {
    for (number, found) in [(1, true), (2, false), (150, true)] {
        let key = json!({"hash": format!("{number:064x}"), "name": format!("app vault-{number}")});
        let matching = find_in(key, &["vault-1", "vault-150"]).unwrap();
        assert_eq!(matching.is_some(), found, "{number}");
    }
}

#[test]
fn a_label_that_is_the_whole_secret_is_not_kept() {
    for (label, kept) in [
        ("sk-or-v1-planted", ""),
        ("sk-or-v1-pla...ted", "sk-or-v1-pla...ted"),
    ] {
        let hash = KeyHash::of(&"sk-or-v1-planted".into());
        let key = json!({"name": "app", "hash": hash, "label": label});
        assert_eq!(ListedKey::of(key).unwrap().read().unwrap().label, kept);
    }
}

#[test]
fn only_the_whole_last_word_of_a_name_counts() {
    let nonces = words(&["vault-abc"]);
    assert!(ends_with_one_of("app 2026-11-20 vault-abc", &nonces));
    assert!(ends_with_one_of("vault-abc", &nonces));
    for name in [
        "",
        "app vault-abc ",
        "app vault-abc x",
        "app my-vault-abc",
        "vault-abcd",
    ] {
        assert!(!ends_with_one_of(name, &nonces), "{name}");
    }
    let empty = words(&[""]);
    assert!(!ends_with_one_of("", &empty) && !ends_with_one_of("app ", &empty));
}
