# Vault Agent as the parent of an application that takes the key from its environment. Agent restarts the
# application when the key has changed; with a dynamic role, only at the end of max_ttl:
#
#   VAULT_ADDR=https://vault.example.com:8200 vault agent -config=supervisor.hcl
#
# Checked by `scripts/test consumers`.

auto_auth {
  method {
    type = "token_file"
    config = {
      token_file_path = "vault-token"
    }
  }
}

env_template "OPENROUTER_API_KEY" {
  contents             = "{{ with secret \"openrouter/creds/app\" }}{{ .Data.api_key }}{{ end }}"
  error_on_missing_key = true
}

exec {
  command                   = ["./application"]
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}
