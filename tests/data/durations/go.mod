module vault-plugin-secrets-openrouter/tests/data/durations

go 1.25

require github.com/hashicorp/go-secure-stdlib/parseutil v0.2.0

require (
	github.com/hashicorp/go-secure-stdlib/strutil v0.1.2 // indirect
	github.com/hashicorp/go-sockaddr v1.0.6 // indirect
	github.com/mitchellh/mapstructure v1.5.0 // indirect
	github.com/ryanuber/go-glob v1.0.0 // indirect
)
