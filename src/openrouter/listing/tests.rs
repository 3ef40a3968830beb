//! Reading listings: what is a key, what is looked for, and when a listing is over.

use serde_json::json;

use super::*;

fn keys(numbers: impl IntoIterator<Item = usize>) -> Vec<Value> {
    let key = |number| {
        let name = format!("app vault-{number}");
        json!({"hash": format!("{number:064x}"), "name": name})
    };
    numbers.into_iter().map(key).collect()
}

fn words(words: &[&str]) -> HashSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A look for keys, page by page.
#[derive(Default)]
struct Search {
    listing: Listing,
    nonces: HashSet<String>,
    found: Found,
}

impl Search {
    fn new(nonces: &[&str]) -> Self {
        Self {
            nonces: words(nonces),
            ..Self::default()
        }
    }

    fn take(&mut self, page: Vec<Value>) -> Result<Progress, Error> {
        let Self {
            listing,
            nonces,
            found,
        } = self;
        listing.take(page, &mut |key| found.look_at(key, nonces))
    }

    fn names(&self) -> Vec<&str> {
        let keys = self.found.keys.iter();
        keys.map(|key| key.name.as_str()).collect()
    }
}

#[test]
fn a_page_that_is_not_full_is_the_last() {
    let mut search = Search::new(&["vault-7"]);
    assert_eq!(search.take(keys(0..99)), Ok(Progress::Ended));
    assert_eq!(search.names(), ["app vault-7"]);
}

#[test]
fn a_full_page_is_followed_by_another_even_if_that_is_empty() {
    let mut search = Search::new(&["vault-99"]);
    assert_eq!(search.take(keys(0..100)), Ok(Progress::MoreToCome));
    assert_eq!(search.take(keys([])), Ok(Progress::Ended));
    assert_eq!(search.names(), ["app vault-99"]);
}

#[test]
fn a_key_that_appears_on_two_pages_is_found_once_and_counted_twice() {
    let mut search = Search::new(&["vault-99"]);
    assert_eq!(search.take(keys(0..100)), Ok(Progress::MoreToCome));
    assert_eq!(search.take(keys(99..199)), Ok(Progress::MoreToCome));
    assert_eq!(search.names(), ["app vault-99"]);
    assert_eq!(search.listing.received, 200);
}

#[test]
fn a_full_page_without_anything_new_is_an_error() {
    let mut search = Search::default();
    assert_eq!(search.take(keys(0..100)), Ok(Progress::MoreToCome));
    let error = search.take(keys((0..100).rev())).unwrap_err();
    assert!(
        error.to_string().ends_with("only repeats the one before"),
        "{error}"
    );
}

#[test]
fn a_listing_without_end_is_an_error() {
    let mut search = Search::default();
    for page in 1..MAX_PAGES {
        let progress = search.take(keys(page * 100..page * 100 + 100));
        assert_eq!(progress, Ok(Progress::MoreToCome));
    }
    let error = search.take(keys(0..100)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has not ended after 2000 pages"),
        "{error}"
    );
}

#[test]
fn a_key_of_somebody_else_may_be_as_odd_as_it_likes() {
    let mut search = Search::new(&["vault-1"]);
    let mut page = vec![
        json!({"name": "no hash"}),
        json!({"name": "odd hash", "hash": 5}),
        json!({"name": "no hash of ours", "hash": "x", "limit": "five", "disabled": "no"}),
        json!({"name": null, "hash": "0"}),
    ];
    page.extend(keys([1]));
    assert_eq!(search.take(page), Ok(Progress::Ended));
    assert_eq!(search.names(), ["app vault-1"]);
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
        let refused = Search::new(&["vault-1"]).take(vec![odd.clone()]);
        assert!(refused.is_err_and(|error| !error.is_definite()), "{odd}");
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
fn several_nonces_are_found_in_one_go() {
    let mut search = Search::new(&["vault-1", "vault-150"]);
    assert_eq!(search.take(keys(0..100)), Ok(Progress::MoreToCome));
    assert_eq!(search.take(keys(100..180)), Ok(Progress::Ended));
    assert_eq!(search.names(), ["app vault-1", "app vault-150"]);
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
