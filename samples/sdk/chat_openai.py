"""The OpenAI SDK with OpenRouter's address. Vault Agent, an operator or a script has set the key in the
environment. Checked by `scripts/test consumers`."""

import os

from openai import OpenAI

url = os.environ.get("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1")
with OpenAI(api_key=os.environ["OPENROUTER_API_KEY"], base_url=url) as client:
    reply = client.chat.completions.create(
        model="openai/gpt-4o-mini",
        messages=[{"role": "user", "content": "Say hello."}],
    )
print(reply.choices[0].message.content)
