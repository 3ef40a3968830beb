//! The fault script: which requests fail, and how often.
//!
//! A test (or a person, over HTTP) adds rules. Every request to the API takes the first rule that
//! matches. This file only selects the fault, if any.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::fault::Fault;
use crate::requests::{Caller, path_matches};

/// A fault and the requests that it applies to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The method; any if absent.
    #[serde(default)]
    pub method: Option<String>,
    /// The path below `/api/v1`, in which `*` matches one segment; `*` alone matches every path.
    #[serde(default = "every_path")]
    pub path: String,
    /// The kind of caller; any if absent.
    #[serde(default)]
    pub caller: Option<CallerKind>,
    /// How many matching requests succeed first.
    #[serde(default)]
    pub skip: u32,
    /// How many requests the fault applies to after that; `None` is unlimited.
    #[serde(default = "once")]
    pub times: Option<u32>,
    /// The fault.
    pub fault: Fault,
}

/// Which kind of key a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallerKind {
    /// A management key.
    Management,
    /// A living, enabled, unexpired API key.
    Key,
}

/// A rule and how often it was used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleStatus {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// How many requests it was applied to.
    pub fired: u32,
    #[serde(skip)]
    skipped: u32,
}

/// The script of one simulator. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FaultScript(Arc<Script>);

#[derive(Debug, Default)]
struct Script {
    rules: Mutex<Vec<RuleStatus>>,
    /// Every held request listens to it.
    cleared: watch::Sender<()>,
}

/// Turns a fault into a rule.
impl Fault {
    /// This fault for the next request with `method` to `path`, see [`Rule::path`].
    #[must_use]
    pub fn on(self, method: &str, path: &str) -> Rule {
        Rule {
            method: Some(method.to_owned()),
            path: path.to_owned(),
            caller: None,
            skip: 0,
            times: Some(1),
            fault: self,
        }
    }

    /// This fault for the next request of any kind.
    #[must_use]
    pub fn on_anything(self) -> Rule {
        Rule {
            method: None,
            ..self.on("", &every_path())
        }
    }
}

impl Rule {
    /// Only from the `n`th matching request on, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u32) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// For this many requests instead of one.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// For all requests, until the script is cleared.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.times = None;
        self
    }

    /// Only for requests that carry this kind of key.
    #[must_use]
    pub fn by(mut self, caller: CallerKind) -> Self {
        self.caller = Some(caller);
        self
    }

    fn fits(&self, method: &str, path: &str, caller: &Caller) -> bool {
        let caller_fits = match self.caller {
            None => true,
            Some(CallerKind::Management) => matches!(caller, Caller::Management { .. }),
            Some(CallerKind::Key) => matches!(caller, Caller::Key { .. }),
        };
        caller_fits
            && self
                .method
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && path_matches(&self.path, path)
    }
}

impl FaultScript {
    /// Appends a rule. The first matching rule that is not used up applies.
    pub fn add(&self, rule: Rule) {
        self.rules(|rules| {
            rules.push(RuleStatus {
                rule,
                fired: 0,
                skipped: 0,
            })
        });
    }

    /// Removes all rules, and releases held requests.
    pub fn clear(&self) {
        self.rules(Vec::clear);
        self.0.cleared.send_replace(());
    }

    /// All rules, used up or not.
    #[must_use]
    pub fn list(&self) -> Vec<RuleStatus> {
        self.rules(|rules| rules.clone())
    }

    /// How many requests are held now, see [`Fault::Held`]. A request that is held after its effect
    /// counts from then on.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.cleared.receiver_count()
    }

    /// Holds a request with [`Fault::Held`].
    pub(crate) async fn hold(&self) {
        let mut cleared = self.0.cleared.subscribe();
        // The script may have been cleared since the rule was applied.
        let is_due = |status: &RuleStatus| {
            status.fired > 0 && matches!(status.rule.fault, Fault::Held { .. })
        };
        if self.rules(|rules| rules.iter().any(is_due)) {
            // Fails only without a sender, and this script has it.
            let _ = cleared.changed().await;
        }
    }

    /// The fault for this request. A rule counts only requests that no earlier rule took.
    pub(crate) fn next_for(&self, method: &str, path: &str, caller: &Caller) -> Option<Fault> {
        self.rules(|rules| {
            let live = |status: &&mut RuleStatus| {
                status.rule.times.is_none_or(|times| status.fired < times)
                    && status.rule.fits(method, path, caller)
            };
            for status in rules.iter_mut().filter(live) {
                if status.skipped < status.rule.skip {
                    status.skipped += 1;
                } else {
                    status.fired += 1;
                    return Some(status.rule.fault.clone());
                }
            }
            None
        })
    }

    fn rules<T>(&self, act: impl FnOnce(&mut Vec<RuleStatus>) -> T) -> T {
        act(&mut self.0.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn every_path() -> String {
    "*".to_owned()
}

// serde requires a default to be a function of the field's type.
#[expect(
    clippy::unnecessary_wraps,
    reason = "None is the other value: for ever"
)]
fn once() -> Option<u32> {
    Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::KeyChanges;

    fn draw(script: &FaultScript, count: usize) -> Vec<Option<&'static str>> {
        (0..count)
            .map(|_| {
                script
                    .next_for("POST", "/keys", &Caller::Unknown)
                    .map(|fault| fault.kind())
            })
            .collect()
    }

    #[test]
    fn a_rule_applies_once_unless_told_otherwise() {
        let script = FaultScript::default();
        script.add(Fault::LostReply.on("POST", "/keys"));
        assert_eq!(draw(&script, 2), [Some("lost_reply"), None]);
    }

    #[test]
    fn rules_apply_in_order_and_count_what_reaches_them() {
        let script = FaultScript::default();
        script.add(Fault::LostReply.on("POST", "/keys").nth(2));
        script.add(Fault::status(503).on_anything().times(2));
        let expected = [Some("status"), Some("lost_reply"), Some("status"), None];
        assert_eq!(draw(&script, 4), expected);
    }

    #[test]
    fn a_rule_for_ever_ends_only_when_the_script_is_cleared() {
        let script = FaultScript::default();
        script.add(Fault::EndlessBody.on_anything().forever());
        assert_eq!(draw(&script, 20), [Some("endless_body"); 20]);
        script.clear();
        assert_eq!(draw(&script, 1), [None]);
    }

    #[test]
    fn a_rule_may_ask_for_a_method_a_path_and_a_caller() {
        let script = FaultScript::default();
        script.add(
            Fault::LostReply
                .on("DELETE", "/keys/*")
                .by(CallerKind::Management),
        );
        let management = Caller::Management {
            label: "sk-or-v1-0e6...1c96".into(),
        };
        assert!(
            script
                .next_for("DELETE", "/keys/ab", &Caller::Unknown)
                .is_none()
        );
        assert!(script.next_for("PATCH", "/keys/ab", &management).is_none());
        assert!(script.next_for("DELETE", "/keys", &management).is_none());
        assert!(script.next_for("DELETE", "/keys/ab", &management).is_some());
    }

    #[test]
    fn a_misspelt_rule_is_refused() {
        let refused = [
            r#"{"fault":{"kind":"lost_repl"}}"#,
            r#"{"fault":{"kind":"lost_reply"},"tims":2}"#,
            r#"{"fault":{"kind":"slow","milliseconds":5,"after":true}}"#,
            r#"{"fault":{"kind":"created_otherwise","limt":5}}"#,
        ];
        for json in refused {
            assert!(serde_json::from_str::<Rule>(json).is_err(), "{json}");
        }
        let rule: Rule = serde_json::from_str(
            r#"{"times":null,"fault":{"kind":"created_otherwise","limit":null}}"#,
        )
        .unwrap();
        let changes = KeyChanges {
            limit: Some(None),
            ..KeyChanges::default()
        };
        assert_eq!(
            rule,
            Fault::CreatedOtherwise(changes).on_anything().forever()
        );
    }
}
