// Package gcputil declares what Vault Agent calls to log in to Google Cloud. It finds no credentials: see
// ../../README.md.
package gcputil

import (
	"context"
	"errors"

	"golang.org/x/oauth2"
)

// GcpCredentials are never found.
type GcpCredentials struct{ ClientEmail string }

// FindCredentials always fails.
func FindCredentials(string, context.Context, ...string) (*GcpCredentials, oauth2.TokenSource, error) {
	return nil, nil, errors.New("this test server was built without Google Cloud")
}
