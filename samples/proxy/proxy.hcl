# Vault Proxy in front of Vault, for applications without a token of their own:
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

# Caches renewable leases only. The lease of a rotating role is not renewable, so each request for the current
# key goes to Vault.
#
# The lease of a dynamic role is renewable. All callers without a token of their own get the same key from the
# cache, and the proxy renews it. The `lease_duration` in the response is the original one, not the remaining
# time: ask the proxy for each use instead of keeping the key. If a lease is revoked other than through the
# proxy, it may stay in the cache until it ends.
cache {}

listener "tcp" {
  address     = "127.0.0.1:8100"
  tls_disable = true
}
