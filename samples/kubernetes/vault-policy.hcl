# The policy that the manifests in this folder need; the role of the Kubernetes auth method names it. Checked
# by `scripts/test consumers`; External Secrets Operator runs with it in `scripts/test operators`. It does not
# control what the keys may do: `guardrail`, `workspace` and `limit` belong to the role, and `allowed_roles`,
# `max_limit` and `max_key_lifetime` to the connection. `roles.yaml` writes roles, with the policy
# `../policies/team.hcl`.
path "openrouter/static-creds/app" {
  capabilities = ["read"]
}
path "openrouter/creds/app" {
  capabilities = ["read"]
}
path "openrouter/creds/jobs" {
  capabilities = ["read"]
}

# For VSO's `revoke: true`; Vault's default policy does not allow it. The holder can revoke every lease whose
# ID it knows; an ID cannot be guessed. The default policy allows renewal.
path "sys/leases/revoke" {
  capabilities = ["update"]
}
