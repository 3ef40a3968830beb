"""OpenRouter's own Python SDK. Vault Agent, an operator or a script has set the key in the
environment. Checked by `scripts/test consumers`."""

import os

from openrouter import OpenRouter

key, url = os.environ["OPENROUTER_API_KEY"], os.environ.get("OPENROUTER_BASE_URL")
with OpenRouter(api_key=key, server_url=url) as client:
    reply = client.chat.send(
        model="openai/gpt-4o-mini",
        messages=[{"role": "user", "content": "Say hello."}],
    )
print(reply.choices[0].message.content)
