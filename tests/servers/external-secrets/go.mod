module vault-plugin-secrets-openrouter/tests/servers/external-secrets

go 1.25.3

require github.com/external-secrets/external-secrets v0.16.2
