// Drives the simulator with OpenRouter's TypeScript SDK, whose schemas refuse incomplete answers.

import assert from "node:assert/strict";
import { OpenRouter } from "@openrouter/sdk";

const [baseUrl, managementKey] = process.argv.slice(2);
const client = (apiKey) =>
  new OpenRouter({ apiKey, serverURL: baseUrl, retryConfig: { strategy: "none" } }).apiKeys;

const keys = client(managementKey);
const expiresAt = new Date("2100-01-01T00:00:00Z");
const created = await keys.create({ requestBody: { name: "typescript", limit: 2, expiresAt } });
const { hash } = created.data;
assert.equal(new Date(created.data.expiresAt).getTime(), expiresAt.getTime());
const listed = await keys.list({ includeDisabled: true, offset: 0 });
assert.ok(listed.data.some((key) => key.hash === hash));
assert.equal((await keys.get({ hash })).data.name, "typescript");
assert.equal((await keys.getCurrentKeyMetadata()).data.isManagementKey, true);
const own = client(created.key);
assert.equal((await own.getCurrentKeyMetadata()).data.limit, 2);
const updated = await keys.update({ hash, requestBody: { name: "renamed", limit: null } });
assert.equal(updated.data.limit, null);
assert.equal((await keys.delete({ hash })).deleted, true);
await assert.rejects(keys.get({ hash }), { message: "Resource not found" });
await assert.rejects(own.getCurrentKeyMetadata(), { message: "User not found." });
console.log("the TypeScript SDK accepts the simulator");
