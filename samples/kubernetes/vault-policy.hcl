# What the three operators below need in Vault; the role of the Kubernetes auth method names it.
path "openrouter/static-creds/app" {
  capabilities = ["read"]
}
path "openrouter/creds/app" {
  capabilities = ["read"]
}
path "openrouter/creds/jobs" {
  capabilities = ["read"]
}
