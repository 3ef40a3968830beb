// A long-running application that is not notified when its key is replaced. It reads the key from Vault,
// reads it again when OpenRouter rejects it, and repeats the call. Answers each line of its standard
// input. Checked by `scripts/test consumers`.
//
// With the address of a Vault Proxy in VAULT_ADDR, no token is needed.

import { createInterface } from "node:readline";
import OpenAI, { AuthenticationError } from "openai";

const {
  VAULT_ADDR: address,
  VAULT_TOKEN: token,
  OPENROUTER_VAULT_PATH: path = "openrouter/static-creds/app",
  OPENROUTER_BASE_URL: baseURL = "https://openrouter.ai/api/v1",
} = process.env;

// The role's current key, or a promise of it: concurrent calls share one read.
let key;

async function read() {
  const headers = token ? { "X-Vault-Token": token } : {};
  const reply = await fetch(`${address}/v1/${path}`, { headers, signal: AbortSignal.timeout(10_000) });
  if (!reply.ok) throw new Error(`Vault answered ${reply.status}: ${await reply.text()}`);
  return (await reply.json()).data.api_key;
}

function current() {
  const reading = (key ??= read());
  // A failed read is not cached.
  reading.catch(() => rejected(reading));
  return reading;
}

function rejected(used) {
  if (key === used) key = undefined;
}

async function chat(text) {
  for (const lastTry of [false, true]) {
    const used = current();
    try {
      const client = new OpenAI({ apiKey: await used, baseURL });
      const reply = await client.chat.completions.create({
        model: "openai/gpt-4o-mini",
        messages: [{ role: "user", content: text }],
      });
      return reply.choices[0].message.content;
    } catch (error) {
      if (!(error instanceof AuthenticationError) || lastTry) throw error;
      rejected(used);
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(await chat(line.trim()));
}
