// The OpenAI SDK with OpenRouter's address. Vault Agent, an operator or a script has set the key in the
// environment. Checked by `scripts/test consumers`.

import OpenAI from "openai";

const { OPENROUTER_API_KEY: apiKey, OPENROUTER_BASE_URL: baseURL } = process.env;
const client = new OpenAI({ apiKey, baseURL: baseURL ?? "https://openrouter.ai/api/v1" });
const reply = await client.chat.completions.create({
  model: "openai/gpt-4o-mini",
  messages: [{ role: "user", content: "Say hello." }],
});
console.log(reply.choices[0].message.content);
