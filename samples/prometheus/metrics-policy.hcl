# For Prometheus: the metrics of the mount, and nothing else.
# Checked by `scripts/test prometheus`.
path "openrouter/metrics" {
  capabilities = ["read"]
}
