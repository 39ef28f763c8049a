// agents/client: closes, reconnects, and what becomes of calls in between.
import { assert, check, connect, ready, rejection, runAll, states, unique } from "./harness.mjs";

const many = (client, kind, times) =>
  client.log.until((items) => items.filter((item) => item.kind === kind).length >= times, `${kind} ${times}`);

/** Have the server close the client's socket; the call itself may be cut off. */
function closeBy(client, code, reason = "as asked") {
  client.call("close_me", [code, reason]).catch(() => {});
  return many(client, "close", client.kinds("close").length + 1);
}

async function isFinal(defer, code) {
  const client = await ready(defer, "RoomAgent");
  const pending = rejection(client.call("wait_for", ["never"]));
  await closeBy(client, code);
  assert.deepEqual(client.kinds("close"), [{ kind: "close", code, reason: "as asked" }]);
  assert.equal((await pending).message, "Connection closed");
  assert.deepEqual([client.connectionError.code, client.connectionError.reason], [code, "as asked"]);
  assert.equal(client.kinds("connection-error").length, 1);
  assert.equal((await rejection(client.call("me"))).message, "Connection closed");
  assert.equal(client.shouldReconnect, false);
}

check("1008 and 4000-4999 are final", ["b.final-codes", "e.connection-error"], async (defer) => {
  await Promise.all([1008, 4000, 4999].map((code) => isFinal(defer, code)));
});

async function comesBack(defer, code) {
  const client = await ready(defer, "RoomAgent");
  const before = client.ready;
  const { id } = await client.call("me");
  await closeBy(client, code);
  assert.deepEqual(client.kinds("close"), [{ kind: "close", code, reason: "as asked" }]);
  assert.notEqual(client.ready, before);
  assert.equal(client.identified, false);
  await client.ready;
  assert.equal(client.identified, true);
  assert.equal((await client.call("me")).id, id);
  assert.equal(client.connectionError, null);
}

check("after other codes the client is back under its id", ["b.reconnect", "e.ready-renewed", "a.connection-id"], async (defer) => {
  await Promise.all([1000, 1011, 1012, 3000].map((code) => comesBack(defer, code)));
});

check("a refusal in on_connect with 4xxx is final", ["f.6", "b.final-codes"], async (defer) => {
  const client = connect(defer, { agent: "RoomAgent", name: unique(), query: { refuse: "4003" } });
  await many(client, "connection-error", 1);
  assert.deepEqual([client.connectionError.code, client.connectionError.reason], [4003, "refused"]);
});

check("a handshake refused with 400 is tried for ever", ["f.6"], async (defer) => {
  const client = connect(defer, { agent: "AbsentAgent", name: unique() });
  await many(client, "socket-error", 3);
  assert.deepEqual([client.connectionError, client.kinds("open").length], [null, 0]);
});

check("on_connect that raises: error frame, 1011, another try", ["a.on-connect-raises"], async (defer) => {
  const client = connect(defer, { agent: "RoomAgent", name: unique(), query: { raise: "1" } });
  await many(client, "close", 2);
  const reason = "Uncaught exception during session setup";
  assert.deepEqual(client.kinds("close")[0], { kind: "close", code: 1011, reason });
  assert.deepEqual(Object.keys(client.frames()[0]), ["error"]);
  assert.match(client.frames()[0].error, /on_connect failed/);
});

check("the first reconnect comes after 3 s", ["b.reconnect-delay"], async (defer) => {
  const client = await ready(defer, "RoomAgent", { minReconnectionDelay: undefined });
  await closeBy(client, 1012);
  const started = Date.now();
  await many(client, "open", 2);
  const waited = Date.now() - started;
  assert.ok(waited > 2900 && waited < 5500, `${waited} ms`);
});

check("further reconnects come later and later", ["b.reconnect-delay"], async (defer) => {
  const times = [];
  const client = connect(defer, { agent: "RoomAgent", name: unique(), query: { refuse: "1013" }, minReconnectionDelay: 100 });
  client.addEventListener("close", () => times.push([Date.now()]));
  client.addEventListener("open", () => times.at(-1)?.push(Date.now()));
  await many(client, "close", 4);
  const gaps = times.slice(0, 3).map(([closed, open]) => open - closed);
  [100, 130, 169].forEach((least, index) => assert.ok(gaps[index] >= least - 3, `${gaps}`));
});

check("reconnect() is immediate", ["b.reconnect-now"], async (defer) => {
  const client = await ready(defer, "RoomAgent", { minReconnectionDelay: undefined });
  const started = Date.now();
  client.reconnect();
  await many(client, "identity", 2);
  assert.ok(Date.now() - started < 2500);
});

check("calls in flight reject, queued ones are delivered", ["b.in-flight", "b.queued-calls"], async (defer) => {
  const client = await ready(defer, "RoomAgent");
  const flying = rejection(client.call("wait_for", ["never"]));
  let queued;
  client.addEventListener("close", () => (queued ??= client.call("me")));
  await closeBy(client, 1012);
  assert.equal((await flying).message, "Connection closed");
  assert.equal((await queued).id, client.id);
});

check("after a reconnect the state is the present one", ["b.state-on-connect", "e.ready-renewed"], async (defer) => {
  const away = await ready(defer, "StateAgent");
  const other = await ready(defer, "StateAgent", { name: away.name });
  away.close();
  assert.equal(await other.call("increment", [4]), 4);
  away.reconnect();
  await away.ready;
  assert.deepEqual(away.state, { count: 4 });
});

check("close code and reason reach on_close", ["d.on-close", "b.close-echo"], async (defer) => {
  const watcher = await ready(defer, "RoomAgent");
  const leaving = await ready(defer, "RoomAgent", { name: watcher.name });
  leaving.close(4321, "going home");
  let seen;
  while (!seen) seen = (await watcher.call("read_journal")).find(([kind]) => kind === "close");
  assert.deepEqual(seen, ["close", leaving.id, 4321, "going home", true]);
});

check("destroy closes with 1001 and leaves nothing", ["b.destroyed", "d.destroy"], async (defer) => {
  const client = await ready(defer, "StoreAgent");
  const rows = await client.call("fill");
  assert.deepEqual(rows, [{ id: 1, body: "one" }]);
  assert.deepEqual(await client.call("contents"), { state: { stored: "state" }, key: "value", table: true });
  client.call("destroy_me").catch(() => {});
  await many(client, "close", 1);
  assert.deepEqual(client.kinds("close")[0], { kind: "close", code: 1001, reason: "Durable Object destroyed" });
  await client.ready;
  assert.deepEqual(await client.call("contents"), { state: { stored: null }, key: null, table: false });
  assert.deepEqual(states(client).at(-1), { stored: null });
  assert.equal((await client.call("identity")).starts, 1);
});

check("an instance slow to start is reached in the end", ["b.slow-handshake"], async (defer) => {
  const client = connect(defer, { agent: "SlowStartAgent", name: unique(), connectionTimeout: 150 });
  await many(client, "identity", 1);
  assert.ok(client.kinds("close").length >= 1, "no handshake timed out");
  let count;
  while (count !== 1) count = await client.call("connections");
  assert.equal((await client.call("read_journal")).filter(([kind]) => kind === "start").length, 1);
});

check("shouldReconnectOnClose may decline", ["e.should-reconnect"], async (defer) => {
  const client = await ready(defer, "RoomAgent", { shouldReconnectOnClose: ({ code }) => code !== 1012 });
  await closeBy(client, 1011);
  await client.ready;
  await closeBy(client, 1012);
  assert.equal(client.connectionError.code, 1012);
  assert.equal((await rejection(client.call("me"))).message, "Connection closed");
});

check("a reconnect elsewhere changes the identity", ["e.identity-change", "a.base-path"], async (defer) => {
  const [first, second] = [unique("user"), unique("user")];
  const users = [first, second];
  const client = connect(defer, { agent: "StateAgent", basePath: "me", query: async () => ({ user: users.shift() }) });
  await client.ready;
  await closeBy(client, 1012);
  await client.ready;
  assert.deepEqual(client.kinds("identity-change"), [{ kind: "identity-change", args: [first, second, "state-agent", "state-agent"] }]);
  assert.equal(client.name, second);
});

await runAll();
