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
        self.workspaces = lambda: client.workspaces.list().result
        self.workspace = lambda id: client.workspaces.get(id=id)
        self.workspace_members = lambda id: client.workspaces.list_members(id=id).result
        self.members = lambda: client.organization.list_members().result
        self.guardrails = lambda **filters: client.guardrails.list(**filters).result
        self.guardrail_create = client.guardrails.create
        self.guardrail = lambda id: client.guardrails.get(id=id)
        self.guardrail_update = lambda id, **changes: client.guardrails.update(id=id, **changes)
        self.guardrail_delete = lambda id: client.guardrails.delete(id=id)
        self.assign = lambda id, *hashes: client.guardrails.bulk_assign_keys(id=id, key_hashes=hashes)
        self.unassign = lambda id, *hashes: client.guardrails.bulk_unassign_keys(id=id, key_hashes=hashes)
        self.assignments = lambda: client.guardrails.list_key_assignments().result
        self.guardrail_keys = lambda id: client.guardrails.list_guardrail_key_assignments(id=id).result
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


def find_workspace():
    found = management.workspace(workspace).data
    equal(management.workspace(found.slug).data, found)
    assert found.id == workspace and found.default_guardrail_id


def list_members():
    found = organization.members()
    equal((found.total_count, found.data[0].email, found.data[0].role), (1, "a@example.com", "org:admin"))


def list_members_of_workspace():
    found = organization.workspace_members("default")
    equal(found.data[0].user_id, organization.members().data[0].id)


def create_for_member():
    member = organization.members().data[0].id
    equal(organization.create(name="python", creator_user_id=member).data.creator_user_id, member)
    equal(organization.create(name="python").data.creator_user_id, None)


def list_guardrails_of_workspace():
    inside = management.guardrail_create(name="python", workspace_id=workspace).data.id
    found = [found.id for found in management.guardrails(workspace_id=workspace).data]
    assert inside in found and guardrail not in found


def create_guardrail():
    body = {"name": "python", "limit_usd": 2.5, "reset_interval": "weekly", "allowed_models": ["a/b"]}
    body |= {"enforce_zdr_openai": True, "description": "d"}
    found = management.guardrail_create(**body).data.model_dump()
    equal({name: found[name] for name in body}, body)


def update_guardrail_to_null():
    id = management.guardrail_create(name="python", limit_usd=1, reset_interval="daily").data.id
    changed = management.guardrail_update(id, limit_usd=None, reset_interval=None).data
    equal((changed.limit_usd, changed.reset_interval, changed.name), (None, None, "python"))


def configure_default_guardrail():
    id = management.workspace("default").data.default_guardrail_id
    changed = management.guardrail_update(id, ignored_models=["a/b"]).data
    equal((changed.id, changed.ignored_models), (id, ["a/b"]))


def delete_guardrail():
    id = management.guardrail_create(name="python").data.id
    equal(management.guardrail_delete(id).model_dump(by_alias=True), {"deleted": True})


def assign_a_key():
    created = management.create(name="python", limit=20)
    key = created.data
    equal(management.assign(guardrail, key.hash, "0" * 64).assigned_count, 1)
    for rows in (management.assignments(), management.guardrail_keys(guardrail)):
        (row,) = (row for row in rows.data if row.key_hash == key.hash)
        equal((row.guardrail_id, row.key_name, row.key_label), (guardrail, "python", key.label))
    found = Sdk(created.key).current().data
    equal([budget.scope for budget in found.budgets], ["api_key", "key_limit"])
    equal((found.effective_budget.guardrail_id, found.effective_budget.remaining_usd), (guardrail, 5))
    assert found.effective_budget.resets_at.tzinfo
    equal(management.unassign(guardrail, key.hash).unassigned_count, 1)


# An organization of its own, with a member.
steer("/accounts", {"management_key": "sk-or-v1-organization-of-python", "organization": True})
organization = Sdk("sk-or-v1-organization-of-python")
number = json.loads(steer("/accounts", method="GET"))["data"][-1]["account"]
steer("/members", {"account": number, "email": "a@example.com", "role": "admin"})

guardrail = management.guardrail_create(name="python", limit_usd=5, reset_interval="daily").data.id
elsewhere = management.create(name="python", workspace_id=workspace).data.hash
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
    ("workspaces", "", lambda: equal(workspace in [found.id for found in management.workspaces().data], True)),
    ("workspace", "by id and slug", find_workspace),
    ("members", "", list_members),
    ("workspace-members", "of the default one", list_members_of_workspace),
    ("create", "for a member", create_for_member),
    ("guardrails", "of a workspace", list_guardrails_of_workspace),
    ("guardrail-create", "with many fields", create_guardrail),
    ("guardrail", "", lambda: equal(management.guardrail(guardrail).data.limit_usd, 5)),
    ("guardrail-update", "to null", update_guardrail_to_null),
    ("guardrail-update", "a workspace's default", configure_default_guardrail),
    ("guardrail-delete", "", delete_guardrail),
    ("assign", "and see it", assign_a_key),
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
half_a_budget = (400, "Invalid request parameters: limit_usd and reset_interval must be set together")
other_workspace = (400, "Some keys do not belong to the same workspace as the guardrail")
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
    ("workspaces", "ordinary key", only_management, own.workspaces),
    ("workspace", "unknown", not_found, lambda: management.workspace("nowhere")),
    ("workspace-members", "unknown", not_found, lambda: management.workspace_members("nowhere")),
    ("members", "of a person", not_found, management.members),
    ("guardrails", "ordinary key", only_management, own.guardrails),
    ("guardrail-create", "half a budget", half_a_budget, lambda: management.guardrail_create(name="python", limit_usd=1)),
    ("guardrail", "unknown", not_found, lambda: management.guardrail(unknown_workspace)),
    ("guardrail-update", "half a budget", half_a_budget, lambda: management.guardrail_update(guardrail, limit_usd=None)),
    ("guardrail-delete", "unknown", not_found, lambda: management.guardrail_delete(unknown_workspace)),
    ("assign", "unknown guardrail", not_found, lambda: management.assign(unknown_workspace, key_hash)),
    ("assign", "other workspace", other_workspace, lambda: management.assign(guardrail, elsewhere)),
    ("unassign", "unknown guardrail", not_found, lambda: management.unassign(unknown_workspace, key_hash)),
    ("assignments", "ordinary key", only_management, own.assignments),
    ("guardrail-keys", "unknown guardrail", not_found, lambda: management.guardrail_keys(unknown_workspace)),
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
    "workspaces": management.workspaces,
    "workspace": lambda: management.workspace(workspace),
    "workspace-members": lambda: management.workspace_members(workspace),
    "members": organization.members,
    "guardrails": management.guardrails,
    "guardrail-create": lambda: management.guardrail_create(name="python"),
    "guardrail": lambda: management.guardrail(guardrail),
    "guardrail-update": lambda: management.guardrail_update(guardrail, name="python"),
    "assign": lambda: management.assign(guardrail, key_hash),
    "unassign": lambda: management.unassign(guardrail, key_hash),
    "assignments": management.assignments,
    "guardrail-keys": lambda: management.guardrail_keys(guardrail),
    "guardrail-delete": lambda: management.guardrail_delete(guardrail),
    "chat": own.chat,
    # Last: it may succeed.
    "delete": lambda: management.delete(hash=key_hash),
}
for call, act in acts.items():
    for status in sorted({*plan["calls"][call]["errors"]["python"], *plan["others"]}):
        fault = {"kind": "status", "status": status, "message": "As scripted."}
        case(call, f"script: {status}", refusal(call, status, "As scripted."), under(fault, call, act))
    unreadable = f"{plan['unreadable']} {plan['calls'][call].get('succeeds', 200)}"
    if plan["calls"][call].get("accepts_anything") == "python":
        unreadable = "accepted"
    case(call, "script: nonsense_json", unreadable, under({"kind": "nonsense_json"}, call, act))
