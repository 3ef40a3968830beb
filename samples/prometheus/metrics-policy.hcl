# For Prometheus: the metrics of the mount, and nothing else.
path "openrouter/metrics" {
  capabilities = ["read"]
}
