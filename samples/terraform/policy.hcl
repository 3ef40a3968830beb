# The policy of Terraform's token: only what main.tf needs. Checked by `scripts/test consumers`, which makes the
# provider's requests with it.

# The provider creates a token for the run.
path "auth/token/create" {
  capabilities = ["update"]
}

path "sys/mounts/openrouter" {
  capabilities = ["create", "read", "update", "delete"]
}
path "sys/mounts/openrouter/tune" {
  capabilities = ["read", "update"]
}
path "sys/policies/acl/openrouter-app" {
  capabilities = ["create", "read", "update", "delete"]
}
path "sys/policies/acl/openrouter-team-a" {
  capabilities = ["create", "read", "update", "delete"]
}

path "openrouter/config" {
  capabilities = ["create", "update"]
}
path "openrouter/config/team-a" {
  capabilities = ["create", "update"]
}
path "openrouter/roles/*" {
  capabilities = ["create", "read", "update", "delete"]
}
path "openrouter/static-creds/app" {
  capabilities = ["read"]
}
