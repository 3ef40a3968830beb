"""Hooks for schemathesis, which holds the simulator to OpenRouter's published document (check.sh runs it).

By itself schemathesis takes every refusal of a request that the document allows for a failure. Here such a
refusal passes if BEHAVIOR.md lists it with its reason, and fails under its own message if not.
"""

import pathlib
import re

import schemathesis

page = pathlib.Path(__file__).parent.with_name("BEHAVIOR.md").read_text()
section = page.split("## What the contract tester says", 1)[1].split("\n#", 1)[0]
# A row is | operation | `what the answer says` | reason |.
listed = re.findall(r"^\| (\w+ \S+) \| `([^`]+)` \| .+ \|$", section, re.MULTILINE)
assert listed, "BEHAVIOR.md lists no refusals"


@schemathesis.check
def refuses_what_is_allowed_only_for_a_listed_reason(ctx, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    message = response.json()["error"]["message"]
    reasons = [reason for operation, reason in listed if operation == case.operation.label]
    assert any(reason in message for reason in reasons), f"not listed in BEHAVIOR.md: {message}"
