// Package okta declares what Vault calls to have a login confirmed by a push message. There is no
// configuration that it accepts, so no client ever exists: see ../../README.md.
package okta

import (
	"context"
	"errors"
	"net/http"
)

var errUnavailable = errors.New("this test server was built without Okta")

// Configuration is never made.
type Configuration struct{ Context context.Context }

// ConfigSetter changes a Configuration.
type ConfigSetter func(*Configuration)

// WithToken changes nothing.
func WithToken(string) ConfigSetter { return func(*Configuration) {} }

// WithOrgUrl changes nothing.
func WithOrgUrl(string) ConfigSetter { return func(*Configuration) {} }

// WithCache changes nothing.
func WithCache(bool) ConfigSetter { return func(*Configuration) {} }

// NewConfiguration always fails.
func NewConfiguration(...ConfigSetter) (*Configuration, error) { return nil, errUnavailable }

// APIClient has Okta's two interfaces that Vault uses.
type APIClient struct {
	UserAPI       UserAPI
	UserFactorAPI UserFactorAPI
	configuration *Configuration
}

// NewAPIClient wraps a configuration.
func NewAPIClient(configuration *Configuration) *APIClient {
	return &APIClient{configuration: configuration}
}

// GetConfig returns the configuration.
func (client *APIClient) GetConfig() *Configuration { return client.configuration }

// Request is any request; T is what it would be answered with.
type Request[T any] struct{}

// Filter changes nothing.
func (request Request[T]) Filter(string) Request[T] { return request }

// Execute always fails.
func (Request[T]) Execute() (T, *http.Response, error) {
	var nothing T
	return nothing, nil, errUnavailable
}

// UserAPI finds users.
type UserAPI struct{}

// ListUsers requests users.
func (UserAPI) ListUsers(context.Context) Request[[]User] { return Request[[]User]{} }

// User is never found.
type User struct{}

// GetId returns nothing.
func (User) GetId() string { return "" }

// UserFactorAPI has logins confirmed.
type UserFactorAPI struct{}

// ListFactors requests a user's factors.
func (UserFactorAPI) ListFactors(context.Context, string) Request[[]Factor] {
	return Request[[]Factor]{}
}

// VerifyFactor requests a push message.
func (UserFactorAPI) VerifyFactor(context.Context, string, string) Request[*Verification] {
	return Request[*Verification]{}
}

// GetFactorTransactionStatus requests what came of a push message.
func (UserFactorAPI) GetFactorTransactionStatus(context.Context, string, string, string) Request[*Status] {
	return Request[*Status]{}
}

// Factor is one of a user's factors.
type Factor struct{ UserFactorPush *UserFactorPush }

// UserFactorPush is a factor that is asked by a push message.
type UserFactorPush struct{}

// GetId returns nothing.
func (*UserFactorPush) GetId() string { return "" }

// Verification is a push message under way.
type Verification struct{ Links map[string]any }

// GetFactorResult returns nothing.
func (*Verification) GetFactorResult() string { return "" }

// Status is what came of a push message.
type Status struct {
	UserFactorPushTransactionWaiting  *struct{}
	UserFactorPushTransaction         *struct{}
	UserFactorPushTransactionRejected *struct{}
	UserFactorPushTransactionTimeout  *struct{}
}
