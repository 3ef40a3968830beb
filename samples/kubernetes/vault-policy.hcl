# What the manifests of this folder need in Vault; the role of the Kubernetes auth method names it. Checked
# by `scripts/test consumers`. What the keys may do is not theirs to say: `guardrail`,
# `workspace` and `limit` are the role's, and `allowed_roles`, `max_limit` and `max_key_lifetime` the
# connection's. A team's policy for its roles is `../policies/team.hcl`.
path "openrouter/static-creds/app" {
  capabilities = ["read"]
}
path "openrouter/creds/app" {
  capabilities = ["read"]
}
path "openrouter/creds/jobs" {
  capabilities = ["read"]
}

# For VSO's `revoke: true`, which is not in Vault's default policy. Whoever has it can revoke every lease
# that it knows the id of; an id cannot be guessed. Renewing is in the default policy.
path "sys/leases/revoke" {
  capabilities = ["update"]
}
