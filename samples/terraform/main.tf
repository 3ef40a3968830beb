# The mount, two connections, two roles with guardrail, workspace and creator, two policies, and a read of the
# current key that stores it in neither state nor plan. Requires Terraform 1.11, version 5.11 of the Vault
# provider, and a token with the policy in policy.hcl. Checked by `samples/check terraform`, and the provider's requests by `scripts/test consumers`.

terraform {
  required_version = ">= 1.11"
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = "~> 5.11"
    }
  }
}

# Reads the address and the token of Vault from VAULT_ADDR and VAULT_TOKEN.
provider "vault" {}

variable "management_key" {
  description = "The OpenRouter management key, for example from TF_VAR_management_key."
  type        = string
  sensitive   = true
  # Stored in neither plan nor state.
  ephemeral = true
  default   = null
}

variable "team_a_management_key" {
  description = "The OpenRouter management key of team A, for example from TF_VAR_team_a_management_key."
  type        = string
  sensitive   = true
  ephemeral   = true
  default     = null
}

variable "write_connection" {
  description = "Whether to write the connections. If false, no management key is needed."
  type        = bool
  default     = true
}

variable "api_url" {
  description = "The address of OpenRouter's API."
  type        = string
  default     = "https://openrouter.ai/api/v1"
}

resource "vault_mount" "openrouter" {
  path        = "openrouter"
  type        = "vault-plugin-secrets-openrouter"
  description = "OpenRouter API keys"
}

# An ephemeral resource, because an ordinary one would store the management key in the state. The drawback is
# that every plan, apply and destroy writes the connection again.
#
# - Each write verifies the key at OpenRouter (one `GET /key`). While OpenRouter is down, plan and destroy fail.
# - A plan recreates a connection that was deleted by hand, and an old value of the variable restores an old
#   management key.
#
# - A plan also changes the bounds.
#
# Write the connection when it changes, and run everything else with `-var write_connection=false`.
ephemeral "vault_generic_endpoint" "connection" {
  count    = var.write_connection ? 1 : 0
  mount_id = vault_mount.openrouter.id
  path     = "${vault_mount.openrouter.path}/config"
  data_json = jsonencode({
    management_key = var.management_key
    api_url        = var.api_url
    # Bounds for every role that uses the connection, no matter who writes the role. To remove one, write `null`:
    # if you only remove the line, the bound stays. To lower one below what a role has, apply the roles first,
    # with `-var write_connection=false`.
    allowed_roles    = ["app", "jobs"]
    max_limit        = 100
    max_key_lifetime = 90 * 24 * 60 * 60
  })
}

# The connection of a team that manages its own roles: see the policy below.
ephemeral "vault_generic_endpoint" "team_a" {
  count    = var.write_connection ? 1 : 0
  mount_id = vault_mount.openrouter.id
  path     = "${vault_mount.openrouter.path}/config/team-a"
  data_json = jsonencode({
    management_key   = var.team_a_management_key
    api_url          = var.api_url
    allowed_roles    = ["team-a-*"]
    max_limit        = 20
    max_key_lifetime = 90 * 24 * 60 * 60
  })
}

# Without a default, because keys without a guardrail should be somebody's decision. A name reads back as it was
# written: if the guardrail is deleted and created again under its name, the plan is empty. A new UUID shows in it.
variable "guardrail" {
  description = "The guardrail of the keys: its UUID or exact name, or null for none."
  type        = string
}

variable "workspace" {
  description = "The workspace of the keys: its slug or UUID, or null for the account's default workspace."
  type        = string
}

variable "creator_user_id" {
  description = "The member of an organization to whom the keys belong: a user ID, or null for none."
  type        = string
  default     = null
}

resource "vault_generic_endpoint" "app" {
  depends_on = [ephemeral.vault_generic_endpoint.connection]
  path       = "${vault_mount.openrouter.path}/roles/app"
  # A read of a role also has its status, which Terraform does not manage.
  ignore_absent_fields = true
  # Durations are integers in seconds, as a read returns them, so that a plan shows only real differences. For
  # no guardrail write `guardrail = null`. If you only remove the line, the guardrail stays and the plan is empty.
  data_json = jsonencode({
    limit                 = 25
    limit_reset           = "monthly"
    rotation_period       = 30 * 24 * 60 * 60
    rotation_grace_period = 24 * 60 * 60
    ttl                   = 60 * 60
    # A read returns both as they were written. It also has guardrail_id and workspace_id.
    guardrail       = var.guardrail
    workspace       = var.workspace
    creator_user_id = var.creator_user_id
  })
}

# A dynamic role has no shared key, so this configuration reads none: a key that Terraform reads dies with the
# token of the run.
resource "vault_generic_endpoint" "jobs" {
  depends_on           = [ephemeral.vault_generic_endpoint.connection]
  path                 = "${vault_mount.openrouter.path}/roles/jobs"
  ignore_absent_fields = true
  data_json = jsonencode({
    credential_type = "dynamic"
    limit           = 2
    max_leases      = 50
    max_ttl         = 24 * 60 * 60
    ttl             = 60 * 60
    guardrail       = var.guardrail
    workspace       = var.workspace
    creator_user_id = var.creator_user_id
  })
}

resource "vault_policy" "app" {
  name   = "openrouter-app"
  policy = <<-POLICY
    path "${vault_mount.openrouter.path}/creds/app" {
      capabilities = ["read"]
    }
    path "${vault_mount.openrouter.path}/creds/jobs" {
      capabilities = ["read"]
    }
  POLICY
}

variable "team_a_workspace" {
  description = "The workspace of team A's keys: its slug or UUID."
  type        = string
}

variable "team_a_guardrail" {
  description = "The guardrail of team A's keys: its exact name or UUID."
  type        = string
}

# A team manages its own roles: only with its own connection, which sets their bounds, in its own workspace and
# with its guardrail. Each write, and each read of a role, has to name all three. An empty value is denied by
# itself, because Vault 1.21 and later accept it for every list of allowed values.
resource "vault_policy" "team_a" {
  name   = "openrouter-team-a"
  policy = <<-POLICY
    path "${vault_mount.openrouter.path}/roles/team-a-*" {
      capabilities        = ["create", "read", "update", "patch"]
      required_parameters = ["connection", "workspace", "guardrail"]
      allowed_parameters = {
        "connection" = ["team-a"]
        "workspace"  = ["${var.team_a_workspace}"]
        "guardrail"  = ["${var.team_a_guardrail}"]
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
    path "${vault_mount.openrouter.path}/creds/team-a-*" {
      capabilities = ["read"]
    }
  POLICY
}

# The current key, read at every plan and apply, and not stored. This uses `static-creds`, because a lease would
# end with Terraform's own token. That would not affect the key, but the lease would have no use.
ephemeral "vault_generic_secret" "app" {
  mount_id = vault_generic_endpoint.app.id
  path     = "${vault_mount.openrouter.path}/static-creds/app"
}

# An ephemeral value is allowed in few places: a write-only argument, the configuration of another provider, or,
# as here, a provisioner, which runs when the role is created.
resource "terraform_data" "hello" {
  triggers_replace = [vault_generic_endpoint.app.id]

  provisioner "local-exec" {
    command = "test -n \"$OPENROUTER_API_KEY\""
    environment = {
      OPENROUTER_API_KEY = ephemeral.vault_generic_secret.app.data["api_key"]
    }
  }
}
