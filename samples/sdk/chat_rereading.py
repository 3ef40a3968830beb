"""A long-running application that is not notified when its key is replaced. It reads the key from Vault,
reads it again when OpenRouter rejects it, and repeats the call. Answers each line of its standard
input. Checked by `scripts/test consumers`.

With the address of a Vault Proxy in VAULT_ADDR, no token is needed."""

import json
import os
import sys
import threading
import urllib.request

from openai import AuthenticationError, OpenAI


class Key:
    """The role's current key. Thread-safe: if several threads find their key rejected, one reads it again."""

    def __init__(self, address, path, token):
        headers = {"X-Vault-Token": token} if token else {}
        self._request = urllib.request.Request(f"{address}/v1/{path}", headers=headers)
        self._lock = threading.Lock()
        self._key = None

    def current(self):
        with self._lock:
            if self._key is None:
                with urllib.request.urlopen(self._request, timeout=10) as reply:
                    self._key = json.load(reply)["data"]["api_key"]
            return self._key

    def rejected(self, key):
        with self._lock:
            if self._key == key:
                self._key = None


def chat(client, key, text):
    for last_try in (False, True):
        used = key.current()
        try:
            reply = client.with_options(api_key=used).chat.completions.create(
                model="openai/gpt-4o-mini",
                messages=[{"role": "user", "content": text}],
            )
            return reply.choices[0].message.content
        except AuthenticationError:
            key.rejected(used)
            if last_try:
                raise


key = Key(
    os.environ["VAULT_ADDR"],
    os.environ.get("OPENROUTER_VAULT_PATH", "openrouter/static-creds/app"),
    os.environ.get("VAULT_TOKEN"),
)
url = os.environ.get("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1")
with OpenAI(api_key=key.current(), base_url=url) as client:
    for line in sys.stdin:
        print(chat(client, key, line.strip()), flush=True)
