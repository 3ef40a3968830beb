//! Operators who start runs: every role is rotated, stray keys are removed, or the mount is torn down and put
//! back into service.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;
use vault_plugin_secrets_openrouter::logical::{Data, Operation};

use crate::people::{DYNAMIC, ROTATING};
use crate::world::World;

impl World {
    /// An operator starts a run.
    pub(crate) async fn order_a_run(self: Arc<Self>) {
        let connection = *self.dice.pick(&["default", "other"]);
        match self.dice.number(0, 9) {
            0..3 => {
                let path = format!("rotate-all/{connection}");
                let _ = self.operate(Operation::Update, &path, json!({})).await;
            }
            3..5 => self.rotate_all_at_once(connection).await,
            5..8 => self.tidy(connection).await,
            _ => self.tear_down().await,
        }
    }

    async fn rotate_all_at_once(self: &Arc<Self>, connection: &str) {
        for role in ROTATING.into_iter().chain([DYNAMIC]) {
            self.witness.emergency(role, Some(self.now()));
        }
        let (path, body) = (
            format!("rotate-all/{connection}"),
            json!({"rotation_grace_period": 0}),
        );
        let _ = self.operate(Operation::Update, &path, body).await;
    }

    async fn tidy(self: &Arc<Self>, connection: &str) {
        let path = format!("tidy/{connection}");
        let body = json!({"dry_run": true});
        let _ = self.operate(Operation::Update, &path, body).await;
        sleep(self.dice.pause(100, 600_000)).await;
        let body = json!({"dry_run": false});
        let _ = self.operate(Operation::Update, &path, body).await;
    }

    async fn tear_down(self: &Arc<Self>) {
        let restores = self.witness.restores();
        let answer = self.operate(Operation::Update, "teardown", json!({})).await;
        if let Ok(Some(answer)) = answer
            && self.witness.restores() == restores
        {
            self.witness_teardown(&answer.data);
        }
        sleep(self.dice.pause(1_000, 3_600_000)).await;
        self.end_teardown().await;
    }

    /// Puts the mount back into service, if it is torn down.
    pub(crate) async fn end_teardown(self: &Arc<Self>) {
        for _ in 0..10 {
            if !self.is_torn_down() {
                break;
            }
            let _ = self
                .operate(Operation::Delete, "teardown", Value::Null)
                .await;
        }
    }

    /// Runs that have not finished although there was time for everything.
    pub(crate) async fn look_for_runs(self: &Arc<Self>) {
        for path in [
            "rotate-all/default",
            "rotate-all/other",
            "tidy/default",
            "tidy/other",
            "teardown",
        ] {
            let answer = self.operate(Operation::Read, path, Value::Null).await;
            if let Ok(Some(answer)) = answer
                && answer.data["state"] == "running"
            {
                self.violated(&format!("{path} still goes on"), &[]);
            }
        }
    }
}

/// When a run began, according to its answer.
pub(crate) fn began(answer: &Data) -> Timestamp {
    answer["began_at"].as_str().unwrap().parse().unwrap()
}
