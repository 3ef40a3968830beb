# For Prometheus: the metrics of the mount only.
# Checked by `scripts/test prometheus`.
path "openrouter/metrics" {
  capabilities = ["read"]
}
