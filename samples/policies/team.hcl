# A team manages its own roles, with its own connection only. `required_parameters` is also needed, because a
# role that names no connection uses `default`. The connection's `allowed_roles`, `max_limit` and
# `max_key_lifetime` bound the rest.
# Checked by `scripts/test policies`.
path "openrouter/roles/team-a-*" {
  capabilities        = ["create", "read", "update", "patch"]
  required_parameters = ["connection"]
  allowed_parameters  = { "connection" = ["team-a"], "*" = [] }
}
path "openrouter/creds/team-a-*" {
  capabilities = ["read"]
}
