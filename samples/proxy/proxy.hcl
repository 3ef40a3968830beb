# Vault Proxy in front of Vault, for applications that hold no token of their own:
#
#   VAULT_ADDR=https://vault.example.com:8200 vault proxy -config=proxy.hcl
#   curl http://127.0.0.1:8100/v1/openrouter/creds/app
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

api_proxy {
  use_auto_auth_token = true
}

# Holds renewable leases only. The lease of a rotating role is not renewable, so the current key is
# asked for each time and never served from here.
#
# That of a dynamic role is: everybody who comes without a token of their own gets the same key from here,
# and the proxy renews it. The `lease_duration` in the reply is what it was at first, and not what is left:
# ask for each use instead of keeping the key. A lease that is revoked other than through the proxy may
# stay in here until its time is over.
cache {}

listener "tcp" {
  address     = "127.0.0.1:8100"
  tls_disable = true
}
