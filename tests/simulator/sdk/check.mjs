// Drives the simulator with OpenRouter's TypeScript SDK, whose schemas refuse incomplete answers.
//
// Usage: check.mjs BASE_URL MANAGEMENT_KEY WORKSPACE. Prints a line for each case, as check.py does: call, case,
// what the SDK has to make of it, what it made of it; fields are separated by tabs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { OpenRouter } from "@openrouter/sdk";
import * as errors from "@openrouter/sdk/models/errors";

const [baseUrl, managementKey, workspace] = process.argv.slice(2);
const control = baseUrl.replace(/\/api\/v1$/, "/simulator");
const plan = JSON.parse(readFileSync(new URL("cases.json", import.meta.url)));
const declared = Object.values(plan.classes).map((name) => errors[name]);

/** The calls of one client, under the names of the plan. */
function sdk(apiKey) {
  const client = new OpenRouter({ apiKey, serverURL: baseUrl, retryConfig: { strategy: "none" } });
  return {
    list: (request) => client.apiKeys.list(request),
    create: (requestBody) => client.apiKeys.create({ requestBody }),
    get: (hash) => client.apiKeys.get({ hash }),
    update: (hash, requestBody) => client.apiKeys.update({ hash, requestBody }),
    delete: (hash) => client.apiKeys.delete({ hash }),
    current: () => client.apiKeys.getCurrentKeyMetadata(),
    credits: () => client.credits.getCredits(),
    workspaces: async () => (await client.workspaces.list()).result,
    workspace: (id) => client.workspaces.get({ id }),
    workspaceMembers: async (id) => (await client.workspaces.listMembers({ id })).result,
    members: async () => (await client.organization.listMembers()).result,
    guardrails: async (request) => (await client.guardrails.list(request)).result,
    guardrailCreate: (createGuardrailRequest) => client.guardrails.create({ createGuardrailRequest }),
    guardrail: (id) => client.guardrails.get({ id }),
    guardrailUpdate: (id, updateGuardrailRequest) => client.guardrails.update({ id, updateGuardrailRequest }),
    guardrailDelete: (id) => client.guardrails.delete({ id }),
    assign: (id, ...keyHashes) => client.guardrails.bulkAssignKeys({ id, bulkAssignKeysRequest: { keyHashes } }),
    unassign: (id, ...keyHashes) => client.guardrails.bulkUnassignKeys({ id, bulkUnassignKeysRequest: { keyHashes } }),
    assignments: async () => (await client.guardrails.listKeyAssignments()).result,
    guardrailKeys: async (id) => (await client.guardrails.listGuardrailKeyAssignments({ id })).result,
    chat: () => client.chat.send({ chatRequest: { model: "m", messages: [{ role: "user", content: "Say hello." }] } }),
  };
}

/** Prints what came of an action: `accepted`, or the error's class and what it says. */
async function check(call, name, expected, act) {
  let outcome = "accepted";
  try {
    await act();
  } catch (error) {
    const read = declared.some((known) => error instanceof known);
    // Of a class of its own the SDK has also read the body.
    const says = read ? `${error.statusCode} ${error.error.code} ${error.message}` : (error.statusCode ?? error.message);
    outcome = `${error.constructor.name} ${says}`;
  }
  console.log([call, name, expected, outcome].join("\t").replaceAll("\n", " "));
}

/** What the SDK makes of a refusal: an error of the status's class, where the call declares it. */
function refusal(call, [status, message]) {
  return plan.calls[call].errors.typescript.includes(status)
    ? `${plan.classes[status]} ${status} ${status} ${message}`
    : `${plan.undeclared} ${status}`;
}

/** Asks the simulator's own interface. */
async function steer(path, body, method = "POST") {
  const answer = await fetch(control + path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
}

/** The action, with a fault that hits its request once. */
function under(fault, call, act) {
  const [method, path] = plan.calls[call].request;
  return async () => {
    await steer("/faults", { method, path, fault });
    try {
      await act();
    } finally {
      await steer("/faults", undefined, "DELETE");
    }
  };
}

const [management, nobody] = [sdk(managementKey), sdk("sk-or-v1-nobody")];
const name = "typescript";
const expiresAt = new Date("2100-01-01T00:00:00Z");
const hashes = async (request) => (await management.list(request)).data.map((key) => key.hash);
const include = (object, part) => assert.deepEqual({ ...object, ...part }, object);

const [living, gone] = [await management.create({ name }), await management.create({ name })];
const [hash, own] = [living.data.hash, sdk(living.key)];
await management.delete(gone.data.hash);

// An organization of its own, with a member.
const organizationKey = `sk-or-v1-organization-of-${name}`;
await steer("/accounts", { management_key: organizationKey, organization: true });
const organization = sdk(organizationKey);
const organizations = await (await fetch(`${control}/accounts`)).json();
const number = organizations.data.at(-1).account;
await steer("/members", { account: number, email: "a@example.com", role: "admin" });

const { id: guardrail } = (await management.guardrailCreate({ name, limitUsd: 5, resetInterval: "daily" })).data;
const elsewhere = (await management.create({ name, workspaceId: workspace })).data.hash;

const accepted = [
  ["list", "in pages", async () => {
    await steer("/keys", { name: "somebody else's", count: 150 });
    const [first, second, last] = [await hashes(), await hashes({ offset: 100 }), await hashes({ offset: 1000 })];
    assert.deepEqual([first.length, last], [100, []]);
    assert.ok(second.length >= 50 && !second.some((hash) => first.includes(hash)));
  }],
  ["list", "with every filter", async () => {
    const { hash } = (await management.create({ name, workspaceId: workspace })).data;
    assert.ok((await hashes({ workspaceId: workspace })).includes(hash) && !(await hashes()).includes(hash));
    await management.update(hash, { disabled: true });
    assert.ok(!(await hashes({ workspaceId: workspace })).includes(hash));
    assert.ok((await hashes({ workspaceId: workspace, includeDisabled: true })).includes(hash));
  }],
  ["create", "with every field", async () => {
    const body = { name, limit: 3.5, limitReset: "monthly", includeByokInLimit: true, expiresAt, workspaceId: workspace, creatorUserId: "user_somebody" };
    const created = await management.create({ ...body, external: { user: "customer-1" } });
    include(created.data, { ...body, externalUser: "customer-1", limitRemaining: 3.5, disabled: false });
    assert.match(created.key, /^sk-or-v1-/);
  }],
  ["create", "with null where it may be", async () => {
    const nulls = { limit: null, limitReset: null, expiresAt: null };
    include((await management.create({ name, ...nulls, creatorUserId: null })).data, nulls);
  }],
  ["get", "", async () => {
    const { updatedAt, ...created } = (await management.create({ name, limit: 1 })).data;
    include((await management.get(created.hash)).data, created);
  }],
  ["update", "every field", async () => {
    const body = { name: "renamed", disabled: true, limit: 7, limitReset: "weekly", includeByokInLimit: true };
    const { hash } = (await management.create({ name })).data;
    const changed = (await management.update(hash, body)).data;
    include(changed, body);
    assert.ok(changed.updatedAt);
  }],
  ["update", "to null", async () => {
    const { hash } = (await management.create({ name, limit: 7, limitReset: "weekly" })).data;
    include((await management.update(hash, { limit: null, limitReset: null })).data, { limit: null, limitReset: null, name });
  }],
  ["delete", "", async () => {
    const { hash } = (await management.create({ name })).data;
    assert.equal((await management.delete(hash)).deleted, true);
    assert.ok(!(await hashes({ includeDisabled: true })).includes(hash));
  }],
  ["current", "of a management key", async () => {
    include((await management.current()).data, { isManagementKey: true, limit: null });
  }],
  ["current", "of an ordinary key", async () => {
    const created = await management.create({ name, limit: 3, limitReset: "daily" });
    const found = (await sdk(created.key).current()).data;
    include(found, { isManagementKey: false, limit: 3, limitRemaining: 3, limitReset: "daily", label: created.data.label });
  }],
  ["credits", "", async () => {
    const found = (await management.credits()).data;
    assert.ok(found.totalCredits > 0 && found.totalUsage >= 0);
  }],
  ["workspaces", "", async () => {
    const { data, totalCount } = await management.workspaces();
    assert.ok(totalCount >= 2 && data.some((found) => found.id === workspace));
  }],
  ["workspace", "by id and slug", async () => {
    const { data } = await management.workspace(workspace);
    include((await management.workspace(data.slug)).data, { id: workspace, name: data.name });
  }],
  ["members", "", async () => {
    const { data, totalCount } = await organization.members();
    assert.deepEqual([totalCount, data[0].email, data[0].role], [1, "a@example.com", "org:admin"]);
  }],
  ["workspace-members", "of the default one", async () => {
    const { data } = await organization.workspaceMembers("default");
    assert.equal(data[0].userId, (await organization.members()).data[0].id);
  }],
  ["create", "for a member", async () => {
    const creatorUserId = (await organization.members()).data[0].id;
    include((await organization.create({ name, creatorUserId })).data, { creatorUserId });
    include((await organization.create({ name })).data, { creatorUserId: null });
  }],
  ["guardrails", "of a workspace", async () => {
    const inside = (await management.guardrailCreate({ name, workspaceId: workspace })).data.id;
    const found = (await management.guardrails({ workspaceId: workspace })).data.map((found) => found.id);
    assert.ok(found.includes(inside) && !found.includes(guardrail));
  }],
  ["guardrail-create", "with many fields", async () => {
    const body = { name, limitUsd: 2.5, resetInterval: "weekly", allowedModels: ["a/b"], enforceZdrOpenai: true, description: "d" };
    include((await management.guardrailCreate(body)).data, body);
  }],
  ["guardrail", "", async () => include((await management.guardrail(guardrail)).data, { id: guardrail, name, limitUsd: 5 })],
  ["guardrail-update", "to null", async () => {
    const { id } = (await management.guardrailCreate({ name, limitUsd: 1, resetInterval: "daily" })).data;
    const nulls = { limitUsd: null, resetInterval: null };
    include((await management.guardrailUpdate(id, nulls)).data, { ...nulls, name });
  }],
  ["guardrail-update", "a workspace's default", async () => {
    const id = (await management.workspace("default")).data.defaultGuardrailId;
    include((await management.guardrailUpdate(id, { ignoredModels: ["a/b"] })).data, { id, ignoredModels: ["a/b"] });
  }],
  ["guardrail-delete", "", async () => {
    const { id } = (await management.guardrailCreate({ name })).data;
    assert.equal((await management.guardrailDelete(id)).deleted, true);
  }],
  ["assign", "and see it", async () => {
    const key = (await management.create({ name })).data;
    assert.equal((await management.assign(guardrail, key.hash, "0".repeat(64))).assignedCount, 1);
    for (const { data } of [await management.assignments(), await management.guardrailKeys(guardrail)]) {
      const row = data.find((row) => row.keyHash === key.hash);
      include(row, { guardrailId: guardrail, keyName: name, keyLabel: key.label });
    }
    assert.equal((await management.unassign(guardrail, key.hash)).unassignedCount, 1);
  }],
  ["chat", "", async () => assert.equal((await own.chat()).choices[0].message.content, "Simulated.")],
];
for (const [call, what, act] of accepted) await check(call, what, "accepted", act);

// Refused for what it is, by the simulator itself.
const exhausted = sdk((await management.create({ name, limit: 0 })).key);
const unknownWorkspace = "00000000-0000-4000-8000-000000000000";
const [noUser, notFound] = [[401, "User not found."], [404, "Resource not found"]];
const limitExceeded = [403, "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"];
const onlyManagement = [403, "Only management keys can perform this operation"];
const negativeLimit = [400, "Invalid request parameters: limit must not be negative"];
const halfABudget = [400, "Invalid request parameters: limit_usd and reset_interval must be set together"];
const otherWorkspace = [400, "Some keys do not belong to the same workspace as the guardrail"];
const refused = [
  ["list", "unknown workspace", notFound, () => management.list({ workspaceId: unknownWorkspace })],
  ["list", "unknown key", noUser, nobody.list],
  ["list", "ordinary key", onlyManagement, own.list],
  ["create", "negative limit", negativeLimit, () => management.create({ name, limit: -1 })],
  ["create", "unknown key", noUser, () => nobody.create({ name })],
  ["create", "ordinary key", onlyManagement, () => own.create({ name })],
  ["get", "unknown key", noUser, () => nobody.get(hash)],
  ["get", "deleted", notFound, () => management.get(gone.data.hash)],
  ["update", "nothing", [400, "No update fields provided"], () => management.update(hash, {})],
  ["update", "unknown key", noUser, () => nobody.update(hash, { limit: 1 })],
  ["update", "ordinary key", onlyManagement, () => own.update(hash, { limit: 1 })],
  ["update", "deleted", notFound, () => management.update(gone.data.hash, { limit: 1 })],
  ["delete", "unknown key", noUser, () => nobody.delete(hash)],
  ["delete", "deleted", notFound, () => management.delete(gone.data.hash)],
  ["current", "unknown key", noUser, nobody.current],
  ["current", "deleted", noUser, sdk(gone.key).current],
  ["credits", "unknown key", noUser, nobody.credits],
  ["credits", "ordinary key", onlyManagement, own.credits],
  ["workspaces", "ordinary key", onlyManagement, own.workspaces],
  ["workspace", "unknown", notFound, () => management.workspace("nowhere")],
  ["workspace-members", "unknown", notFound, () => management.workspaceMembers("nowhere")],
  ["members", "of a person", notFound, management.members],
  ["guardrails", "ordinary key", onlyManagement, () => own.guardrails()],
  ["guardrail-create", "half a budget", halfABudget, () => management.guardrailCreate({ name, limitUsd: 1 })],
  ["guardrail", "unknown", notFound, () => management.guardrail(unknownWorkspace)],
  ["guardrail-update", "half a budget", halfABudget, () => management.guardrailUpdate(guardrail, { limitUsd: null })],
  ["guardrail-delete", "unknown", notFound, () => management.guardrailDelete(unknownWorkspace)],
  ["assign", "unknown guardrail", notFound, () => management.assign(unknownWorkspace, hash)],
  ["assign", "other workspace", otherWorkspace, () => management.assign(guardrail, elsewhere)],
  ["unassign", "unknown guardrail", notFound, () => management.unassign(unknownWorkspace, hash)],
  ["assignments", "ordinary key", onlyManagement, own.assignments],
  ["guardrail-keys", "unknown guardrail", notFound, () => management.guardrailKeys(unknownWorkspace)],
  ["chat", "management key", noUser, management.chat],
  ["chat", "deleted", noUser, sdk(gone.key).chat],
  ["chat", "exhausted", limitExceeded, exhausted.chat],
];
for (const [call, what, because, act] of refused) await check(call, what, refusal(call, because), act);

// Refused by the fault script: every status that the call has a class for, and some that none has.
const acts = {
  list: () => management.list(),
  create: () => management.create({ name }),
  get: () => management.get(hash),
  update: () => management.update(hash, { limit: 1 }),
  current: () => management.current(),
  credits: () => management.credits(),
  workspaces: () => management.workspaces(),
  workspace: () => management.workspace(workspace),
  "workspace-members": () => management.workspaceMembers(workspace),
  members: () => organization.members(),
  guardrails: () => management.guardrails(),
  "guardrail-create": () => management.guardrailCreate({ name }),
  guardrail: () => management.guardrail(guardrail),
  "guardrail-update": () => management.guardrailUpdate(guardrail, { name }),
  assign: () => management.assign(guardrail, hash),
  unassign: () => management.unassign(guardrail, hash),
  assignments: () => management.assignments(),
  "guardrail-keys": () => management.guardrailKeys(guardrail),
  "guardrail-delete": () => management.guardrailDelete(guardrail),
  chat: () => own.chat(),
  // Last: it may succeed.
  delete: () => management.delete(hash),
};
for (const [call, act] of Object.entries(acts)) {
  for (const status of new Set([...plan.calls[call].errors.typescript, ...plan.others])) {
    const fault = { kind: "status", status, message: "As scripted." };
    await check(call, `script: ${status}`, refusal(call, [status, "As scripted."]), under(fault, call, act));
  }
  const unreadable = `${plan.unreadable} ${plan.calls[call].succeeds ?? 200}`;
  await check(call, "script: nonsense_json", unreadable, under({ kind: "nonsense_json" }, call, act));
}
