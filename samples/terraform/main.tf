# The mount, two connections, two roles and two policies; and the current key, read without leaving a trace in the
# state or the plan. Needs Terraform 1.11 and version 5.11 of the Vault provider, and a token with the policy
# of policy.hcl. Checked by `samples/check terraform`, and the provider's requests by `scripts/test consumers`.

terraform {
  required_version = ">= 1.11"
  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = "~> 5.11"
    }
  }
}

# Where Vault is and with which token: VAULT_ADDR and VAULT_TOKEN.
provider "vault" {}

variable "management_key" {
  description = "The OpenRouter management key, for example from TF_VAR_management_key."
  type        = string
  sensitive   = true
  # Not kept in the plan and not in the state.
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
  description = "Whether to write the connections. Off, no management key is needed."
  type        = bool
  default     = true
}

variable "api_url" {
  description = "Where OpenRouter's API is."
  type        = string
  default     = "https://openrouter.ai/api/v1"
}

resource "vault_mount" "openrouter" {
  path        = "openrouter"
  type        = "vault-plugin-secrets-openrouter"
  description = "OpenRouter API keys"
}

# An ephemeral resource rather than an ordinary one, because that would write the management key into the
# state. The price: it is written anew at every plan, apply and destroy, a mere plan included.
#
# - Each time OpenRouter is asked whether the key is good (one `GET /key`); while OpenRouter is down, plan and
#   destroy fail.
# - A plan brings a connection back that was deleted by hand, and an old value of the variable puts an old
#   management key back.
#
# So write it when it changes, and run everything else with `-var write_connection=false`.
ephemeral "vault_generic_endpoint" "connection" {
  count    = var.write_connection ? 1 : 0
  mount_id = vault_mount.openrouter.id
  path     = "${vault_mount.openrouter.path}/config"
  data_json = jsonencode({
    management_key = var.management_key
    api_url        = var.api_url
    # What binds every role that uses the connection, whoever writes roles.
    allowed_roles    = ["app", "jobs"]
    max_limit        = 100
    max_key_lifetime = 90 * 24 * 60 * 60
  })
}

# The connection of a team that makes its own roles: see the policy below.
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

variable "guardrail" {
  description = "The guardrail that the keys are held to, its exact name or UUID; null for none."
  type        = string
  default     = null
}

variable "workspace" {
  description = "The workspace that the keys are made in, its slug or UUID; null for the account's default one."
  type        = string
  default     = null
}

variable "creator_user_id" {
  description = "The member of an organization whom the keys belong to, its user id; null for nobody."
  type        = string
  default     = null
}

resource "vault_generic_endpoint" "app" {
  depends_on = [ephemeral.vault_generic_endpoint.connection]
  path       = "${vault_mount.openrouter.path}/roles/app"
  # A read of a role also has its status, which is not Terraform's.
  ignore_absent_fields = true
  # Integers, in seconds: what a read returns, so that a plan shows no difference where there is none. To have
  # no guardrail write `guardrail = null`: a line that is only removed leaves it as it is, and the plan is empty.
  data_json = jsonencode({
    limit                 = 25
    limit_reset           = "monthly"
    rotation_period       = 30 * 24 * 60 * 60
    rotation_grace_period = 24 * 60 * 60
    ttl                   = 60 * 60
    # A read returns both as they were written. Beside them it has guardrail_id and workspace_id.
    guardrail       = var.guardrail
    workspace       = var.workspace
    creator_user_id = var.creator_user_id
  })
}

# A dynamic role has no key of its own, so there is none to read here: a key that Terraform reads dies with
# the token that Terraform has for the run.
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

# A team makes its own roles, with a connection of its own that bounds them, and no other.
resource "vault_policy" "team_a" {
  name   = "openrouter-team-a"
  policy = <<-POLICY
    path "${vault_mount.openrouter.path}/roles/team-a-*" {
      capabilities        = ["create", "read", "update", "patch"]
      required_parameters = ["connection"]
      allowed_parameters  = { "connection" = ["team-a"], "*" = [] }
    }
  POLICY
}

# The current key. Read at every plan and apply, stored in neither. `static-creds`, since a lease would
# end with Terraform's own token; that would not harm the key, but be of no use.
ephemeral "vault_generic_secret" "app" {
  mount_id = vault_generic_endpoint.app.id
  path     = "${vault_mount.openrouter.path}/static-creds/app"
}

# One of the few places that may have it: a write-only argument, the configuration of another provider, or
# as here a provisioner, which runs when the role is made.
resource "terraform_data" "hello" {
  triggers_replace = [vault_generic_endpoint.app.id]

  provisioner "local-exec" {
    command = "test -n \"$OPENROUTER_API_KEY\""
    environment = {
      OPENROUTER_API_KEY = ephemeral.vault_generic_secret.app.data["api_key"]
    }
  }
}
