//! Confirms by hash what differs for a role's keys, under the role's lock, and repairs it. Each finding is
//! stored separately, so that a failure with one key does not affect the others.

use super::listing::{Doubts, Surroundings, origin_of};
use super::pass::Pass;
use super::report::report;
use crate::engine::books::{Drift, Finding, OUTLIVED};
use crate::engine::clock::after;
use crate::engine::connection::Urgency;
use crate::engine::context::RoleGuard;
use crate::engine::error::Error;
use crate::engine::keys::{Presence, Warrant, hold, presence, seen};
use crate::engine::names::{Place, RoleName};
use crate::engine::role::rotating::{Mismatch, MismatchReason, RotatingRole, Stage, SupersededKey};
use crate::engine::task::Task;
use crate::openrouter::{Key, KeyHash, WorkspaceId};

/// Asks OpenRouter about the doubtful keys, under the role's lock, and stores the result.
///
/// # Errors
/// The first error. The affected key is checked again later; the other results are stored.
pub(super) async fn settle(
    pass: &Pass<'_>,
    around: &Surroundings,
    name: &RoleName,
    doubts: Doubts,
) -> Result<(), Error> {
    let guard = pass.engine.change(name).await;
    let Some(mut role) = guard.load_rotating().await? else {
        return Ok(());
    };
    if pass.engine.require_in_service().is_err() {
        // The teardown decides about every key of the mount.
        return Ok(());
    }
    let settling = Settling {
        pass,
        guard: &guard,
        around,
    };
    let mut outcome = Ok(());
    let mut current = None;
    for hash in &doubts.keys {
        let settled = if role.current.hash == *hash {
            settling.current(&mut role).await.map(|key| current = key)
        } else {
            settling.superseded(&mut role, hash).await
        };
        outcome = outcome.and(settled);
    }
    let mut unknown = doubts.unknown;
    unknown.sort_by_key(|key| key.created_at);
    for key in unknown {
        outcome = outcome.and(settling.take_in(&mut role, &around.place, key).await);
    }
    // Last, since the spending of the other keys must be known before the current key's limit is raised.
    let may_raise = outcome.is_ok() || role.definition.terms.budget.is_none();
    if let Some(key) = current.filter(|_| may_raise) {
        outcome = outcome.and(settling.limits_of_current(&mut role, &key).await);
    }
    outcome
}

struct Settling<'a> {
    pass: &'a Pass<'a>,
    guard: &'a RoleGuard<'a>,
    around: &'a Surroundings,
}

impl Settling<'_> {
    /// Checks the current key; returns it if it exists.
    async fn current(&self, role: &mut RotatingRole) -> Result<Option<Key>, Error> {
        let engine = self.pass.engine;
        let before = role.mismatch.map(|mismatch| mismatch.reason);
        if before == Some(MismatchReason::TornDown) {
            // The engine itself has revoked it, or tried to, in a teardown that was cancelled.
            return Ok(None);
        }
        let key = match presence(engine, &role.current).await? {
            Presence::Works | Presence::Unseen => return Ok(None),
            Presence::Gone if before == Some(MismatchReason::Gone) => return Ok(None),
            Presence::Gone => {
                let message = "the current key is gone at OpenRouter; it is no longer handed out";
                self.mark_mismatch(role, MismatchReason::Gone, Drift::CurrentKeyGone, message)
                    .await?;
                return Ok(None);
            }
            Presence::There(key) => *key,
        };
        let is_outdated = before == Some(MismatchReason::Outdated)
            || (before.is_none() && self.may_have_been_replaced());
        if key.disabled && is_outdated {
            // The engine disabled it when it had been replaced, in a time that storage has lost.
            let message = "the current key is disabled at OpenRouter, which has a newer key of the role; it \
                           is no longer handed out, and is replaced";
            self.mark_mismatch(
                role,
                MismatchReason::Held,
                Drift::CurrentKeyDisabled,
                message,
            )
            .await?;
        } else if key.disabled
            && !matches!(
                before,
                Some(MismatchReason::Disabled | MismatchReason::Held)
            )
        {
            let message = "the current key was disabled at OpenRouter; it is no longer handed out, \
                           and is not replaced automatically";
            self.mark_mismatch(
                role,
                MismatchReason::Disabled,
                Drift::CurrentKeyDisabled,
                message,
            )
            .await?;
        }
        if !key.disabled && before.is_some_and(MismatchReason::is_dead) {
            role.mismatch = None;
            self.guard.store(role).await?;
            let message = "the current key works again at OpenRouter; it is handed out again";
            self.report(Drift::CurrentKeyRestored, &key.hash, message)
                .await;
        }
        let name = role.current.name.clone();
        let is_of_default = role.definition.terms.place().is_default();
        let workspace_id = &mut role.current.workspace_id;
        if self
            .moved_or_renamed(&key, &name, workspace_id, is_of_default)
            .await
        {
            self.guard.store(role).await?;
        }
        Ok(Some(key))
    }

    /// Whether the work has just begun, and a key of an earlier process's order was found: it may have replaced
    /// the current one before storage was restored. What differs later is someone else's doing.
    fn may_have_been_replaced(&self) -> bool {
        if !self.has_just_begun() {
            return false;
        }
        let intents = &self.pass.books.intents;
        let adrift = intents.adrift_of(self.guard.name());
        adrift.iter().any(|written| {
            let nonce = &written.data.nonce;
            let is_in_use = matches!(intents.searches.of(nonce).finding, Finding::InUse(_));
            is_in_use && !intents.is_own(nonce)
        })
    }

    fn has_just_begun(&self) -> bool {
        self.pass.engine.now() <= after(self.pass.books.since, OUTLIVED)
    }

    /// Restores the limits of the current key. With a budget, the next step of its ledger does that.
    async fn limits_of_current(&self, role: &mut RotatingRole, key: &Key) -> Result<(), Error> {
        if let Some(limits) = role
            .granted()
            .filter(|limits| !key.limits.agree_with(limits))
        {
            if role.found_limits(key) {
                self.guard.store(role).await?;
                self.pass
                    .engine
                    .keeper
                    .now(Task::Tend(self.guard.name().clone()));
            } else {
                // A deposed node does not know which limits the role has now.
                self.guard.store(role).await?;
                self.pass.apply_limits_again(&key.hash, &limits).await?;
            }
            let message = format!(
                "the limits of the current key were changed at OpenRouter, to {}; the granted \
                 limits are applied again",
                key.limits
            );
            self.report(Drift::LimitsChanged, &key.hash, message).await;
        }
        Ok(())
    }

    async fn mark_mismatch(
        &self,
        role: &mut RotatingRole,
        reason: MismatchReason,
        drift: Drift,
        message: &str,
    ) -> Result<(), Error> {
        role.mismatch = Some(Mismatch {
            at_first: self.has_just_begun(),
            ..Mismatch::found(reason, self.pass.engine.now())
        });
        self.guard.store(role).await?;
        self.report(drift, &role.current.hash, message).await;
        Ok(())
    }

    async fn superseded(&self, role: &mut RotatingRole, hash: &KeyHash) -> Result<(), Error> {
        let Some(place) = role.superseded.iter().position(|key| key.hash == *hash) else {
            return Ok(());
        };
        let Some(seen) = seen(&self.pass.link, hash).await? else {
            return self.forget_unseen_superseded(role, hash).await;
        };
        let is_held = |key: &SupersededKey| matches!(key.stage, Stage::Held { .. });
        if !seen.disabled && role.superseded.get(place).is_some_and(is_held) {
            // A deposed node does not know whether the key was restored.
            self.guard.store(role).await?;
        }
        let is_of_default = role.definition.terms.place().is_default();
        let Some(key) = role.superseded.get_mut(place) else {
            return Ok(());
        };
        let name = key.name.clone();
        let (mut changed, mut was_enabled) = (false, false);
        match key.stage {
            Stage::Held { .. } if !seen.disabled => {
                let warrant = Warrant::OfRole(self.guard, Urgency::Revocation);
                hold(self.pass.engine, &key.connection, hash, warrant).await?;
                was_enabled = true;
                let message = "a held key was enabled at OpenRouter; it is disabled again";
                self.report(Drift::HeldKeyEnabled, hash, message).await;
            }
            Stage::Grace if seen.disabled && key.disabled_outside.is_none() => {
                key.disabled_outside = Some(self.pass.engine.now());
                changed = true;
                let message = "a superseded key was disabled at OpenRouter; it stays disabled \
                               until it is deleted";
                self.report(Drift::SupersededKeyDisabled, hash, message)
                    .await;
            }
            Stage::Grace if !seen.disabled && key.disabled_outside.is_some() => {
                key.disabled_outside = None;
                changed = true;
            }
            Stage::Grace | Stage::Held { .. } | Stage::Restoring | Stage::Ordered => {}
        }
        changed |= self
            .moved_or_renamed(&seen, &name, &mut key.workspace_id, is_of_default)
            .await;
        if was_enabled && role.is_to_be_counted(hash) {
            // What it has spent in the meantime must be read.
            role.count_disabled(hash, self.pass.engine.now());
            changed = true;
        }
        if changed {
            self.guard.store(role).await?;
        }
        Ok(())
    }

    /// Forgets the key if there is a sign that the management key can still see the account.
    async fn forget_unseen_superseded(
        &self,
        role: &mut RotatingRole,
        hash: &KeyHash,
    ) -> Result<(), Error> {
        let listed = self.around.sees_the_account;
        if !self.pass.sees_the_account(listed, hash).await? {
            return Ok(());
        }
        role.count_ended(hash, None, self.pass.engine.now());
        role.superseded.retain(|key| key.hash != *hash);
        self.guard.store(role).await?;
        let message = "a superseded key is gone at OpenRouter; it is forgotten";
        self.report(Drift::SupersededKeyGone, hash, message).await;
        Ok(())
    }

    /// Reports that a key was renamed or moved to another workspace. Records the workspace, and returns
    /// whether that changed. The role may make keys in the default workspace; of those that are there, no
    /// workspace is stored.
    async fn moved_or_renamed(
        &self,
        key: &Key,
        name: &str,
        workspace_id: &mut Option<WorkspaceId>,
        is_of_default: bool,
    ) -> bool {
        let board = &self.pass.engine.board;
        if key.is_named(name) {
            board.is_over(&key.hash, Drift::KeyRenamed);
        } else if board.is_news(&key.hash, Drift::KeyRenamed, &key.name) {
            let message = format!(
                "a key was renamed at OpenRouter, to {:?}; it stays managed by its hash",
                key.shown_name()
                    .chars()
                    .take(LONGEST_SHOWN)
                    .collect::<String>()
            );
            self.report(Drift::KeyRenamed, &key.hash, message).await;
        }
        let Some(now) = &key.workspace_id else {
            return false;
        };
        let stored = workspace_id.as_ref();
        let found = self.around.whereabouts(stored, now, is_of_default);
        if found.is_moved {
            let message = format!("a key was moved to the workspace {now}; it stays managed");
            self.report(Drift::KeyMoved, &key.hash, message).await;
        }
        let is_changed = found.workspace_id != *workspace_id;
        *workspace_id = found.workspace_id;
        is_changed
    }

    async fn take_in(&self, role: &mut RotatingRole, place: &Place, key: Key) -> Result<(), Error> {
        let engine = self.pass.engine;
        if engine.board.copies().is_some() {
            return Ok(());
        }
        // Since the listing the key may have become the role's, or have been revoked and forgotten.
        let claimed = origin_of(engine, &self.pass.books, &key.name);
        let own_origin = engine.origin(self.guard.name(), &role.life);
        let Some((nonce, _)) = claimed.filter(|(_, origin)| *origin == own_origin) else {
            return Ok(());
        };
        // Another role must not adopt the key at the same time, or have adopted it.
        let _alone = engine.adoptions.lock(&key.hash).await;
        let is_unsure = engine.adoptions.unsure_until(&key.hash, engine.now());
        if engine.register.has(&key.hash) || is_unsure.is_some() {
            return Ok(());
        }
        if role.has_key(&key.hash) || seen(&self.pass.link, &key.hash).await?.is_none() {
            return Ok(());
        }
        let (hash, mismatch) = (key.hash.clone(), role.mismatch);
        role.take_in(key, place, engine.now());
        if engine.series.has(&nonce) {
            // An order of this instance that took effect long after it was given up. Storage has not lost a
            // rotation.
            role.mismatch = mismatch;
        }
        self.guard.store(role).await?;
        let message = "a key of the role was unknown to storage; it is now superseded";
        self.report(Drift::UnknownKey, &hash, message).await;
        Ok(())
    }

    async fn report(&self, drift: Drift, hash: &KeyHash, message: impl Into<String>) {
        report(self.pass, self.guard.name(), drift, hash, message).await;
    }
}

/// In characters, of a name that others may have written.
const LONGEST_SHOWN: usize = 200;
