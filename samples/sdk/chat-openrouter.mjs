// OpenRouter's own TypeScript SDK. Vault Agent, an operator or a script has set the key in the
// environment. Checked by `scripts/test consumers`.

import { OpenRouter } from "@openrouter/sdk";

const { OPENROUTER_API_KEY: apiKey, OPENROUTER_BASE_URL: serverURL } = process.env;
const client = new OpenRouter({ apiKey, serverURL });
const reply = await client.chat.send({
  chatRequest: {
    model: "openai/gpt-4o-mini",
    messages: [{ role: "user", content: "Say hello." }],
  },
});
console.log(reply.choices[0].message.content);
