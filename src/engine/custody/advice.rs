//! Advice about a leaked key: one sentence, and commands.

use super::lookup::Found;
use crate::engine::keys::Owner;
use crate::engine::role::rotating::Standing;
use crate::openrouter::KeyHash;

/// Advice about a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// What the commands do.
    pub text: String,
    /// The commands.
    pub commands: Vec<String>,
}

fn say(text: impl Into<String>, commands: impl IntoIterator<Item = String>) -> Advice {
    Advice {
        text: text.into(),
        commands: commands.into_iter().collect(),
    }
}

/// Advice about a key that was found where it should not be. `mount` is the path of the mount.
pub(super) fn advice(found: &Found, hash: &KeyHash, mount: &str) -> Advice {
    if let Some(connection) = &found.manages {
        return say(
            "It is a management key, and can do everything with the account's keys. Create another one \
             in OpenRouter's settings, write it to the connection, and delete this one in the settings.",
            [format!(
                "vault write {mount}config/{connection} management_key=-"
            )],
        );
    }
    let (Some(owner), Some(connection)) = (&found.owner, &found.connection) else {
        return say(unknown(found), []);
    };
    let path = format!("{connection}/{hash}");
    let revoke = format!("vault write -force {mount}revoke-key/{path}");
    let forced = format!("vault write {mount}revoke-key/{path} force=true");
    let disable = format!("vault write {mount}disable-key/{path} disabled=true");
    match owner {
        Owner::Role(role, Some(Standing::Current { .. })) => say(
            "Rotate the role without a grace period: it gets a new key, and this one is revoked \
             before the response is sent. Readers have a dead key until they read again.",
            [format!(
                "vault write {mount}rotate-role/{role} rotation_grace_period=0"
            )],
        ),
        Owner::Role(_, Some(Standing::Superseded { revoke_at, .. })) => say(
            format!(
                "The engine revokes it at {revoke_at}. Revoke it now if that is too late; readers \
                 that have not switched to the current key yet will then have a dead key."
            ),
            [forced],
        ),
        Owner::Role(role, Some(Standing::Held { version, until })) => say(
            format!(
                "It is disabled, and the engine deletes it at {until}; until then it can be \
                 restored. Delete it now to prevent that. The last command makes it work again."
            ),
            [
                revoke,
                format!("vault write {mount}restore-key/{role} key_version={version}"),
            ],
        ),
        Owner::Role(role, None) => say(
            "The role's entry is unreadable, so it cannot be rotated. Forgetting the role leaves \
             its keys behind; this one can then be revoked.",
            [
                format!("vault write -force {mount}forget-role/{role}"),
                revoke,
            ],
        ),
        Owner::Lease(record) => say(
            "Revoke the lease: the audit log has its id under the request_id. Or delete the key \
             now, independently of the lease. The last command ends every lease of the role.",
            [
                "vault lease revoke -sync <lease_id>".to_owned(),
                forced,
                format!(
                    "vault lease revoke -sync -prefix {mount}creds/{}",
                    record.key.role
                ),
            ],
        ),
        Owner::Pending(_) => say("It is being created. Look it up again in a minute.", []),
        Owner::Lost(_) => say(
            "Its creation was never confirmed. The engine deletes it when it can no longer be in \
             use; look it up again later.",
            [],
        ),
        Owner::Stray | Owner::Unmanaged => say(
            "No role or lease of this mount owns it. Disable it to see whether anyone uses it, or \
             revoke it permanently.",
            [disable, revoke],
        ),
        Owner::OtherMount => say(
            "Another mount of this engine created it: look it up and revoke it there. If it is \
             revoked here, it is missing there.",
            [forced],
        ),
    }
}

fn unknown(found: &Found) -> String {
    if found.not_asked.is_empty() {
        "No connection sees this key: it was deleted, or it belongs to an account without a \
         connection, or it is a management key that is not configured here."
            .to_owned()
    } else {
        "No connection that could be asked sees this key. See not_asked, and look it up again."
            .to_owned()
    }
}
