# Vault Agent that keeps a file with the current key, and runs a command when the key has changed:
#
#   VAULT_ADDR=https://vault.example.com:8200 vault agent -config=agent.hcl
#
# Checked by `scripts/test consumers`.

auto_auth {
  # The plainest method there is. On a real machine: approle, aws, azure, cert, gcp, jwt, kubernetes …
  method {
    type = "token_file"
    config = {
      token_file_path = "vault-token"
    }
  }
}

template {
  # Nothing of the lease in here: Agent reads anew at about nine tenths of every lease, and writes the
  # file only if its content has changed. The lease of a dynamic role it renews, and reads anew when
  # max_ttl cuts a renewal short.
  contents             = "OPENROUTER_API_KEY={{ with secret \"openrouter/creds/app\" }}{{ .Data.api_key }}{{ end }}\n"
  destination          = "openrouter.env"
  perms                = "0600"
  error_on_missing_key = true

  # Run after the file was written, so once for each key: reload the application here. Agent does not run a
  # command again that has failed: let it try again itself, or the application keeps a key that will die.
  exec {
    command = ["./on-new-key"]
    timeout = "10s"
  }
}
