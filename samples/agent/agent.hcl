# Vault Agent that writes the current key to a file, and runs a command when the key changes:
#
#   VAULT_ADDR=https://vault.example.com:8200 vault agent -config=agent.hcl
#
# Checked by `scripts/test consumers`.

auto_auth {
  # The simplest method. On a real machine: approle, aws, azure, cert, gcp, jwt, kubernetes …
  method {
    type = "token_file"
    config = {
      token_file_path = "vault-token"
    }
  }
}

template {
  # Do not include the lease: Agent reads again at about nine tenths of every lease, and writes the file
  # only if its content has changed. Agent renews the lease of a dynamic role, and reads again when
  # max_ttl cuts a renewal short.
  contents             = "OPENROUTER_API_KEY={{ with secret \"openrouter/creds/app\" }}{{ .Data.api_key }}{{ end }}\n"
  destination          = "openrouter.env"
  perms                = "0600"
  error_on_missing_key = true

  # Runs after the file was written, once for each key and also after the first rendering: make the
  # application use the new key here. An application that gets the key as an environment variable has to be
  # restarted. Agent does not repeat a failed command. Make the command retry, or the application keeps a key
  # that will die.
  exec {
    command = ["./on-new-key"]
    timeout = "10s"
  }
}
