# A team manages its own roles: only with its own connection, in its own workspace, and with the guardrail that
# it was given. The connection's `allowed_roles`, `max_limit` and `max_key_lifetime` bound the rest.
#
# A role that names no connection uses `default`, one that names no workspace the account's default workspace,
# and one that names no guardrail has none. Each write therefore has to name all three, and so has each read of
# a role. An empty value is denied by itself, because Vault 1.21 and later accept it for every list of allowed
# values. `workspace_id` is another way to name a workspace. An adopted key (`api_key`) stays in its own
# workspace, and keeps its former guardrail, if any, until the next rotation.
# Checked by `scripts/test policies`.
path "openrouter/roles/team-a-*" {
  capabilities        = ["create", "read", "update", "patch"]
  required_parameters = ["connection", "workspace", "guardrail"]
  allowed_parameters = {
    "connection" = ["team-a"]
    "workspace"  = ["team-a"]
    "guardrail"  = ["No training, EU only"]
    "*"          = []
  }
  denied_parameters = {
    "connection"   = [""]
    "workspace"    = [""]
    "guardrail"    = [""]
    "workspace_id" = []
    "api_key"      = []
  }
}
path "openrouter/creds/team-a-*" {
  capabilities = ["read"]
}
