use secrecy::SecretString;

use super::*;
use crate::openrouter::LimitReset;

const BUDGET: Budget = Budget {
    amount: Amount::LARGEST,
    reset: Some(LimitReset::Daily),
};

fn key(name: &str) -> KeyHash {
    KeyHash::of(&SecretString::from(name))
}

#[test]
fn a_key_that_never_took_over_is_forgotten_or_asked_about() {
    let (now, counting) = (Timestamp::UNIX_EPOCH, BUDGET.counting(false));
    let mut ledger = Ledger::begun(&BUDGET, counting, key("current"), now);
    for powerless in ["a", "b"] {
        ledger.add(key(powerless), counting);
    }
    ledger.add_unlimited(key("found"), counting);
    let left_over = ledger.left_over(|hash| *hash == key("current"));
    assert_eq!(left_over, [key("found")]);
    assert_eq!(
        ledger.grants.len(),
        2,
        "what can spend nothing is forgotten"
    );
    ledger.release(&key("found"));
    assert_eq!(ledger.counted(), BUDGET.amount);
}

#[test]
fn no_call_lets_the_keys_have_more_than_the_budget() {
    let (now, counting) = (Timestamp::UNIX_EPOCH, BUDGET.counting(false));
    let mut ledger = Ledger::begun(&BUDGET, counting, key("current"), now);
    ledger.add(key("next"), counting);
    let a_cent = Amount::granted(0.01);
    let refused = ledger.begin(&key("next"), a_cent, (&BUDGET, counting), now);
    assert!(refused.is_none());
    assert!(
        ledger
            .begin(&key("nobody's"), Amount::ZERO, (&BUDGET, counting), now)
            .is_none()
    );
    let lower = BUDGET.amount.minus(a_cent);
    let begun = ledger.begin(&key("current"), lower, (&BUDGET, counting), now);
    let refused = ledger.begin(&key("next"), a_cent, (&BUDGET, counting), now);
    assert!(refused.is_none(), "not before it is confirmed");
    let reading = Reading {
        spent: Amount::ZERO,
        limit: lower,
        resets_at: None,
    };
    ledger.confirm(begun.unwrap(), reading, false, now);
    assert!(
        ledger
            .begin(&key("next"), a_cent, (&BUDGET, counting), now)
            .is_some()
    );
}

#[test]
fn a_reset_that_is_noticed_late_is_noticed_where_openrouter_does_not_say_when_it_was() {
    let at = |instant: &str| -> Timestamp { instant.parse().unwrap() };
    let counting = BUDGET.counting(false);
    let noon = at("2026-11-20T12:00:00Z");
    let mut ledger = Ledger::begun(&BUDGET, counting, key("current"), noon);
    let reading = |spent| Reading {
        spent: Amount::granted(spent),
        limit: BUDGET.amount,
        resets_at: None,
    };
    ledger.read(&key("current"), reading(5.0), noon);
    // The node or OpenRouter was down over midnight. By now the key has spent more than it had before.
    for hour in ["06:00", "12:00", "20:00"] {
        let now = at(&format!("2026-11-21T{hour}:00Z"));
        assert!(
            ledger.has_rolled(&key("current"), reading(8.0), now),
            "{hour}"
        );
    }
}

#[test]
fn the_last_check_for_a_reset_is_stored_under_the_name_that_earlier_builds_read() {
    let (now, counting) = (Timestamp::UNIX_EPOCH, BUDGET.counting(false));
    let mut ledger = Ledger::begun(&BUDGET, counting, key("current"), now);
    ledger.has_not_rolled(now);
    let stored = serde_json::to_value(&ledger).unwrap();
    assert_eq!(stored["looked"], "1970-01-01T00:00:00Z");
    assert_eq!(serde_json::from_value::<Ledger>(stored).unwrap(), ledger);
}
