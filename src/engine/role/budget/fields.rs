//! The fields of a budget, and how a write changes it.

use super::{Amount, Budget};
use crate::engine::error::Error;
use crate::engine::role::Terms;
use crate::framework::{Field, Fields};
use crate::openrouter::LimitReset;

/// The budget after a write to `before`. Fields that are not in the request are unchanged.
///
/// # Errors
/// [`Error::Invalid`], with the field and its valid values.
pub fn apply(before: Option<Budget>, fields: &Fields) -> Result<Option<Budget>, Error> {
    let amount = match fields.number("budget") {
        Some(usd) => Some(amount(usd)?),
        None if fields.is_null("budget") => None,
        None => before.map(|b| b.amount),
    };
    let reset = match fields.text("budget_reset") {
        Some(text) => Some(text.parse::<LimitReset>()?),
        None if fields.is_null("budget_reset") => None,
        None => before.and_then(|b| b.reset),
    };
    match amount {
        Some(amount) => Ok(Some(Budget { amount, reset })),
        None if fields.text("budget_reset").is_some() => {
            Err(Error::invalid("budget_reset needs a budget to reset"))
        }
        // Removing a budget removes its reset.
        None => Ok(None),
    }
}

/// `budget_alert_percent` after a write, of a role whose budget is then `budget`; `None` is the default.
///
/// # Errors
/// [`Error::Invalid`], with the field and its valid values.
pub fn alert_percent(
    before: Option<u8>,
    budget: Option<Budget>,
    fields: &Fields,
) -> Result<Option<u8>, Error> {
    let asked = fields.integer("budget_alert_percent");
    if asked.is_some() && budget.is_none() {
        return Err(Error::invalid(
            "budget_alert_percent needs a budget to watch",
        ));
    }
    let percent = match asked {
        Some(percent) => Some(
            u8::try_from(percent)
                .ok()
                .filter(|percent| (1..=100).contains(percent))
                .ok_or_else(|| {
                    Error::invalid("budget_alert_percent must be a whole number from 1 to 100")
                })?,
        ),
        None if fields.is_null("budget_alert_percent") => None,
        None => before,
    };
    // Removing a budget removes what goes with it.
    Ok(percent.filter(|_| budget.is_some()))
}

fn amount(usd: f64) -> Result<Amount, Error> {
    let amount = Amount::granted(usd);
    if amount > Amount::ZERO && amount <= Amount::LARGEST {
        Ok(amount)
    } else {
        Err(Error::invalid(
            "budget must be more than 0 US dollars and at most a billion, or empty for none",
        ))
    }
}

/// On a rotating role the budget and the limit exclude each other: writing one clears the other.
///
/// # Errors
/// [`Error::Invalid`] if one request contains both.
pub fn exclude_limit(terms: &mut Terms, fields: &Fields) -> Result<(), Error> {
    let asks_for_budget = fields.number("budget").is_some();
    let asks_for_limit = fields.number("limit").is_some();
    if asks_for_limit && (asks_for_budget || fields.text("budget_reset").is_some()) {
        return Err(Error::invalid(
            "limit and budget exclude each other on a rotating role: limit applies to each key, \
             budget to all keys of the role together",
        ));
    }
    if asks_for_limit {
        if fields.integer("budget_alert_percent").is_some() {
            return Err(Error::invalid(
                "budget_alert_percent goes with budget, which a limit clears",
            ));
        }
        terms.budget = None;
        terms.budget_alert_percent = None;
    }
    if terms.budget.is_some() {
        if fields.text("limit_reset").is_some() {
            return Err(Error::invalid(
                "limit_reset goes with limit; a budget has budget_reset",
            ));
        }
        terms.limits.limit = None;
        terms.limits.reset = None;
    }
    Ok(())
}

/// Checks the budget of a dynamic role, from which every lease takes its limit.
///
/// # Errors
/// [`Error::Invalid`], with the field and its valid values.
pub fn check_pooled(terms: &Terms) -> Result<(), Error> {
    let Some(budget) = terms.budget else {
        return Ok(());
    };
    let Some(limit) = terms.limits.limit else {
        return Err(Error::invalid(
            "budget needs a limit on a dynamic role: the amount that each lease takes out of it",
        ));
    };
    if Amount::of_limit(Some(limit.as_f64())) > budget.amount {
        return Err(Error::invalid(
            "limit must be at most the budget, since each lease takes its limit out of it",
        ));
    }
    if terms.limits.reset.is_some() && terms.limits.reset != budget.reset {
        return Err(Error::invalid(
            "limit_reset must be empty or the same as budget_reset",
        ));
    }
    Ok(())
}

/// The fields of a write.
pub const FIELDS: &[Field] = &[
    Field::number(
        "budget",
        "How much all keys of the role may spend together, in US dollars. Must be more than 0. On\n\
         a rotating role it replaces limit and limit_reset: a rotation divides what is left\n\
         between the superseded key and the new one. On a dynamic role each lease takes its limit\n\
         out of the budget and returns what it did not spend. An empty value means no budget.",
    )
    .nullable(),
    Field::text(
        "budget_reset",
        "When the budget resets, at 00:00 UTC. An empty value means never.",
    )
    .one_of(&["daily", "weekly", "monthly"])
    .nullable(),
    Field::integer(
        "budget_alert_percent",
        "Report when this percentage of the budget is spent, from 1 to 100: in the log, as an\n\
         event, in the status and in the metrics. Spending all of it is reported too. Each is\n\
         reported once a window. An empty value means the default.",
    )
    .default("80")
    .nullable(),
    Field::switch(
        "track_usage",
        "Whether to read and store what each key has spent when it ends, for `usage/:name`, even\n\
         without a budget. A key is then disabled when it ends, and deleted ten minutes later.\n\
         With a budget that is always so.",
    )
    .default("false"),
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::names::RoleName;
    use crate::engine::role::dynamic::DynamicRole;
    use crate::engine::role::fields::write as schema;
    use crate::engine::role::rotating::{self, Definition};

    fn parse(body: Value) -> Result<Fields, String> {
        let Value::Object(body) = body else {
            panic!("not an object")
        };
        let schema: Vec<Field> = schema().collect();
        Fields::parse(&schema, &[], &body, true).map_err(|e| e.to_string())
    }

    fn rotating(before: Option<&Definition>, body: Value) -> Result<Definition, String> {
        let name = RoleName::new("app").unwrap();
        let made = rotating::apply(&name, before, &parse(body)?).map_err(|e| e.to_string())?;
        let now = jiff::Timestamp::UNIX_EPOCH;
        made.check(now).map_err(|e| e.to_string())?;
        Ok(made)
    }

    fn dynamic(body: Value) -> Result<DynamicRole, String> {
        let name = RoleName::new("ci").unwrap();
        DynamicRole::apply(&name, None, &parse(body)?).map_err(|e| e.to_string())
    }

    #[test]
    fn a_budget_and_a_limit_replace_each_other_and_exclude_each_other() {
        let limited = rotating(None, json!({"limit": 5, "limit_reset": "daily"})).unwrap();
        let body = json!({"budget": 50, "budget_reset": "monthly"});
        let budgeted = rotating(Some(&limited), body).unwrap();
        let budget = budgeted.terms.budget.unwrap();
        assert_eq!(budget.amount.as_usd(), 50.0);
        assert_eq!(budget.reset, Some(LimitReset::Monthly));
        assert_eq!(
            (budgeted.terms.limits.limit, budgeted.terms.limits.reset),
            (None, None)
        );
        let again = rotating(Some(&budgeted), json!({"limit": 3})).unwrap();
        assert_eq!(again.terms.budget, None);
        assert_eq!(again.terms.limits.limit.unwrap().as_f64(), 3.0);
        let both = rotating(None, json!({"limit": 5, "budget": 50})).unwrap_err();
        assert!(both.contains("exclude each other"), "{both}");
    }

    #[test]
    fn what_an_update_does_not_name_stays() {
        let before = rotating(None, json!({"budget": 50, "budget_reset": "daily"})).unwrap();
        let after = rotating(Some(&before), json!({"description": "new"})).unwrap();
        assert_eq!(after.terms.budget, before.terms.budget);
        let ever = rotating(Some(&before), json!({"budget_reset": null})).unwrap();
        assert_eq!(ever.terms.budget.unwrap().reset, None);
        let none = rotating(Some(&before), json!({"budget": null})).unwrap();
        assert_eq!(none.terms.budget, None);
    }

    #[test]
    fn the_percentage_of_an_alert_stays_and_goes_with_the_budget() {
        let body = json!({"budget": 50, "budget_alert_percent": 60});
        let before = rotating(None, body).unwrap();
        assert_eq!(before.terms.watched().unwrap().1, 60);
        let after = rotating(Some(&before), json!({"budget": 70})).unwrap();
        assert_eq!(after.terms.watched().unwrap().1, 60);
        let default = rotating(Some(&before), json!({"budget_alert_percent": null})).unwrap();
        assert_eq!(default.terms.watched().unwrap().1, 80);
        for gone in [json!({"budget": null}), json!({"limit": 3})] {
            let after = rotating(Some(&before), gone).unwrap();
            assert_eq!(after.terms.budget_alert_percent, None);
            assert_eq!(after.terms.watched(), None);
        }
        let both = json!({"limit": 3, "budget_alert_percent": 70});
        let both = rotating(Some(&before), both).unwrap_err();
        assert!(both.contains("which a limit clears"), "{both}");
    }

    #[test]
    fn contradictions_are_refused_with_the_field_that_is_wrong() {
        for (body, reason) in [
            (json!({"budget": 0}), "budget must be more than 0"),
            (json!({"budget": 2e9}), "at most a billion"),
            (
                json!({"budget_reset": "daily"}),
                "budget_reset needs a budget",
            ),
            (
                json!({"budget": 1, "budget_reset": "hourly"}),
                "budget_reset must be one of",
            ),
            (
                json!({"budget": 1, "limit_reset": "daily"}),
                "limit_reset goes with limit",
            ),
            (
                json!({"budget_alert_percent": 50}),
                "budget_alert_percent needs a budget",
            ),
            (
                json!({"limit": 5, "budget_alert_percent": 50}),
                "budget_alert_percent needs a budget",
            ),
            (
                json!({"budget": 5, "budget_alert_percent": 0}),
                "from 1 to 100",
            ),
            (
                json!({"budget": 5, "budget_alert_percent": 101}),
                "from 1 to 100",
            ),
        ] {
            let refusal = rotating(None, body.clone()).unwrap_err();
            assert!(refusal.contains(reason), "{body}: {refusal}");
        }
        let leases =
            json!({"budget": 5, "limit": 5, "budget_reset": "daily", "limit_reset": "daily"});
        assert!(dynamic(leases).is_ok());
        for (body, reason) in [
            (json!({"budget": 5}), "budget needs a limit"),
            (json!({"budget": 5, "limit": 5.5}), "at most the budget"),
            (
                json!({"budget": 5, "limit": 1, "limit_reset": "daily"}),
                "the same as budget_reset",
            ),
        ] {
            let refusal = dynamic(body.clone()).unwrap_err();
            assert!(refusal.contains(reason), "{body}: {refusal}");
        }
    }
}
