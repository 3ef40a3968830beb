"""Drives the simulator with OpenRouter's Python SDK, whose models refuse incomplete answers.

Usage: check.py BASE_URL MANAGEMENT_KEY WORKSPACE. Prints a line for each case: call, case, what the SDK has to
make of it, what it made of it; fields are separated by tabs.
"""

import datetime
import json
import pathlib
import sys
import urllib.request

from openrouter import OpenRouter, errors

base_url, management_key, workspace = sys.argv[1:]
control = base_url.removesuffix("/api/v1") + "/simulator"
plan = json.loads(pathlib.Path(__file__).with_name("cases.json").read_text())


class Sdk:
    """The calls of one client, under the names of the plan."""

    def __init__(self, key):
        client = OpenRouter(api_key=key, server_url=base_url, retry_config=None)
        self.list = client.api_keys.list
        self.create = client.api_keys.create
        self.get = client.api_keys.get
        self.update = client.api_keys.update
        self.delete = client.api_keys.delete
        self.current = client.api_keys.get_current_key_metadata
        self.credits = client.credits.get_credits
        self.chat = lambda: client.chat.send(model="m", messages=[{"role": "user", "content": "Say hello."}])


def case(call, name, expected, act):
    """Prints what came of an action: `accepted`, or the error's class and what it says."""
    try:
        act()
        outcome = "accepted"
    except errors.OpenRouterError as error:
        outcome = f"{type(error).__name__} {error.status_code}"
        if isinstance(error, tuple(declared)):
            # Of a class of its own the SDK has also read the body.
            outcome += f" {error.data.error.code} {error.message}"
    except Exception as error:
        outcome = " ".join(f"{type(error).__name__} {error}".split())
    print(call, name, expected, outcome, sep="\t")


declared = [getattr(errors, name) for name in plan["classes"].values()]


def refusal(call, status, message):
    """What the SDK makes of a refusal: an error of the status's class, where the call declares it."""
    if status in plan["calls"][call]["errors"]["python"]:
        return f"{plan['classes'][str(status)]} {status} {status} {message}"
    return f"{plan['undeclared']} {status}"


def steer(path, body=None, method="POST"):
    """Asks the simulator's own interface."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(control + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def under(fault, call, act):
    """The action, with a fault that hits its request once."""
    method, path = plan["calls"][call]["request"]

    def act_under_fault():
        steer("/faults", {"method": method, "path": path, "fault": fault})
        try:
            act()
        finally:
            steer("/faults", method="DELETE")

    return act_under_fault


management, nobody = Sdk(management_key), Sdk("sk-or-v1-nobody")
expiry = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)


def equal(found, wanted):
    assert found == wanted, f"{found!r} is not {wanted!r}"


def create_with_everything():
    created = management.create(
        name="python",
        limit=3.5,
        limit_reset="monthly",
        include_byok_in_limit=True,
        expires_at=expiry,
        workspace_id=workspace,
        creator_user_id="user_somebody",
        external={"user": "customer-1"},
    )
    key = created.data
    equal((key.name, key.limit, key.limit_reset, key.include_byok_in_limit), ("python", 3.5, "monthly", True))
    equal((key.expires_at, key.workspace_id, key.creator_user_id), (expiry, workspace, "user_somebody"))
    equal((key.external_user, key.limit_remaining, key.disabled), ("customer-1", 3.5, False))
    assert created.key.startswith("sk-or-v1-")


def create_with_nulls():
    key = management.create(name="python", limit=None, limit_reset=None, expires_at=None, creator_user_id=None).data
    equal((key.limit, key.limit_reset, key.expires_at, key.last_used_at), (None, None, None, None))


def list_pages():
    steer("/keys", {"name": "somebody else's", "count": 150})
    pages = [[key.hash for key in management.list(offset=offset).data] for offset in (0, 100, 1000)]
    equal((len(pages[0]), pages[2]), (100, []))
    assert len(pages[1]) >= 50 and not set(pages[0]) & set(pages[1])


def list_with_filters():
    key = management.create(name="python", workspace_id=workspace, expires_at=expiry).data
    hashes = lambda **filters: [key.hash for key in management.list(workspace_id=workspace, **filters).data]
    assert key.hash in hashes() and key.hash not in [key.hash for key in management.list().data]
    management.update(hash=key.hash, disabled=True)
    assert key.hash not in hashes() and key.hash in hashes(include_disabled=True)
    steer(f"/keys/{key.hash}", {"expires_at": "2020-01-01T00:00:00Z"})
    assert key.hash not in hashes(include_disabled=True)
    assert key.hash in hashes(include_disabled=True, include_expired=True)


def get_what_was_created():
    created = management.create(name="python", limit=1).data
    found = management.get(hash=created.hash).data
    equal(found.model_dump(), {**found.model_dump(), **created.model_dump()})


def update_everything():
    key = management.create(name="python").data
    changed = management.update(
        hash=key.hash,
        name="renamed",
        disabled=True,
        limit=7,
        limit_reset="weekly",
        include_byok_in_limit=True,
        workspace_id=workspace,
    ).data
    equal((changed.name, changed.disabled, changed.limit, changed.limit_reset), ("renamed", True, 7, "weekly"))
    equal((changed.include_byok_in_limit, changed.workspace_id), (True, workspace))
    assert changed.updated_at


def update_to_null():
    key = management.create(name="python", limit=7, limit_reset="weekly").data
    changed = management.update(hash=key.hash, limit=None, limit_reset=None).data
    equal((changed.limit, changed.limit_reset, changed.name), (None, None, "python"))


def delete_for_good():
    key = management.create(name="python").data
    equal(management.delete(hash=key.hash).model_dump(by_alias=True), {"deleted": True})
    assert key.hash not in [key.hash for key in management.list(include_disabled=True).data]


def current_of_management():
    found = management.current().data
    equal((found.is_management_key, found.limit), (True, None))


def current_of_key():
    created = management.create(name="python", limit=3, limit_reset="daily")
    found = Sdk(created.key).current().data
    equal((found.is_management_key, found.limit, found.limit_remaining), (False, 3, 3))
    equal((found.label, found.limit_reset), (created.data.label, "daily"))


def credits():
    found = management.credits().data
    assert found.total_credits > 0 and found.total_usage >= 0


living, gone = management.create(name="python"), management.create(name="python")
key_hash, own = living.data.hash, Sdk(living.key)
management.delete(hash=gone.data.hash)

for call, name, act in [
    ("list", "in pages", list_pages),
    ("list", "with every filter", list_with_filters),
    ("create", "with every field", create_with_everything),
    ("create", "with null where it may be", create_with_nulls),
    ("get", "", get_what_was_created),
    ("update", "every field", update_everything),
    ("update", "to null", update_to_null),
    ("delete", "", delete_for_good),
    ("current", "of a management key", current_of_management),
    ("current", "of an ordinary key", current_of_key),
    ("credits", "", credits),
    ("chat", "", lambda: equal(own.chat().choices[0].message.content, "Simulated.")),
]:
    case(call, name, "accepted", act)

# Refused for what it is, by the simulator itself.
exhausted = Sdk(management.create(name="python", limit=0).key)
unknown_workspace = "00000000-0000-4000-8000-000000000000"
no_user, not_found = (401, "User not found."), (404, "Resource not found")
limit_exceeded = (403, "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys")
only_management = (403, "Only management keys can perform this operation")
negative_limit = (400, "Invalid request parameters: limit must not be negative")
for call, name, refused, act in [
    ("list", "unknown workspace", not_found, lambda: management.list(workspace_id=unknown_workspace)),
    ("list", "unknown key", no_user, nobody.list),
    ("list", "ordinary key", only_management, own.list),
    ("create", "negative limit", negative_limit, lambda: management.create(name="python", limit=-1)),
    ("create", "unknown key", no_user, lambda: nobody.create(name="python")),
    ("create", "ordinary key", only_management, lambda: own.create(name="python")),
    ("get", "unknown key", no_user, lambda: nobody.get(hash=key_hash)),
    ("get", "deleted", not_found, lambda: management.get(hash=gone.data.hash)),
    ("update", "nothing", (400, "No update fields provided"), lambda: management.update(hash=key_hash)),
    ("update", "unknown key", no_user, lambda: nobody.update(hash=key_hash, limit=1)),
    ("update", "ordinary key", only_management, lambda: own.update(hash=key_hash, limit=1)),
    ("update", "deleted", not_found, lambda: management.update(hash=gone.data.hash, limit=1)),
    ("delete", "unknown key", no_user, lambda: nobody.delete(hash=key_hash)),
    ("delete", "deleted", not_found, lambda: management.delete(hash=gone.data.hash)),
    ("current", "unknown key", no_user, nobody.current),
    ("current", "deleted", no_user, Sdk(gone.key).current),
    ("credits", "unknown key", no_user, nobody.credits),
    ("credits", "ordinary key", only_management, own.credits),
    ("chat", "management key", no_user, management.chat),
    ("chat", "deleted", no_user, Sdk(gone.key).chat),
    ("chat", "exhausted", limit_exceeded, exhausted.chat),
]:
    case(call, name, refusal(call, *refused), act)

# Refused by the fault script: every status that the call has a class for, and some that none has.
acts = {
    "list": management.list,
    "create": lambda: management.create(name="python"),
    "get": lambda: management.get(hash=key_hash),
    "update": lambda: management.update(hash=key_hash, limit=1),
    "current": management.current,
    "credits": management.credits,
    "chat": own.chat,
    # Last: it may succeed.
    "delete": lambda: management.delete(hash=key_hash),
}
for call, act in acts.items():
    for status in sorted({*plan["calls"][call]["errors"]["python"], *plan["others"]}):
        fault = {"kind": "status", "status": status, "message": "As scripted."}
        case(call, f"script: {status}", refusal(call, status, "As scripted."), under(fault, call, act))
    unreadable = f"{plan['unreadable']} {201 if call == 'create' else 200}"
    if plan["calls"][call].get("accepts_anything") == "python":
        unreadable = "accepted"
    case(call, "script: nonsense_json", unreadable, under({"kind": "nonsense_json"}, call, act))
