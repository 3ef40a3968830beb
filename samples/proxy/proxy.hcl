# Vault Proxy in front of Vault, for applications that hold no token of their own:
#
#   VAULT_ADDR=https://vault.example.com:8200 vault proxy -config=proxy.hcl
#   curl http://127.0.0.1:8100/v1/openrouter/creds/app

auto_auth {
  method {
    type = "token_file"
    config = {
      token_file_path = "vault-token"
    }
  }
}

api_proxy {
  use_auto_auth_token = true
}

# Holds renewable leases only. The lease of a rotating role is not renewable, so the current key is
# asked for each time and never served from here.
cache {}

listener "tcp" {
  address     = "127.0.0.1:8100"
  tls_disable = true
}
