"""Drives the simulator with OpenRouter's Python SDK, whose models refuse incomplete answers."""

import datetime
import sys

from openrouter import OpenRouter, errors

base_url, management_key = sys.argv[1:]


def client(key):
    return OpenRouter(api_key=key, server_url=base_url)


keys = client(management_key).api_keys
expiry = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
created = keys.create(name="python", limit=3, limit_reset="monthly", expires_at=expiry)
key_hash = created.data.hash
assert created.data.expires_at == expiry
assert key_hash in [key.hash for key in keys.list(include_disabled=True).data]
assert keys.get(hash=key_hash).data.name == "python"
assert keys.get_current_key_metadata().data.is_management_key
own = client(created.key).api_keys
assert own.get_current_key_metadata().data.limit == 3
try:
    own.create(name="more")
    raise AssertionError("an ordinary key must not manage keys")
except errors.ForbiddenResponseError as error:
    assert "management keys" in str(error)
assert keys.update(hash=key_hash, name="renamed", disabled=True).data.disabled
assert client(management_key).credits.get_credits().data.total_usage == 0
keys.delete(hash=key_hash)
try:
    keys.get(hash=key_hash)
    raise AssertionError("a deleted key must be gone")
except errors.NotFoundResponseError as error:
    assert str(error) == "Resource not found"
try:
    own.get_current_key_metadata()
    raise AssertionError("a deleted key must not authenticate")
except errors.UnauthorizedResponseError as error:
    assert str(error) == "User not found."
print("the Python SDK accepts the simulator")
