// agents/react: useAgent mounted by React, judged by what it renders.
import { assert, check, connect, ready, rejection, runAll } from "./harness.mjs";
import { mount } from "./dom.mjs";

const showsCount = (count) => ({ state }) => state?.count === count;

check("the hook renders state and identity", ["e.use-agent", "e.use-agent-path"], async (defer) => {
  const probe = mount(defer, "StateAgent");
  const { name } = probe.options;
  assert.equal((await probe.rendered()).identified, false);
  const screen = await probe.identified();
  const path = [{ agent: "StateAgent", name }];
  assert.deepEqual(screen, { state: { count: 0 }, name, agent: "state-agent", identified: true, path, error: null });
  await probe.agent.ready;
  assert.deepEqual(probe.log.items.filter(([kind]) => kind === "identity"), [["identity", name, "state-agent"]]);
});

check("the hook renders a change by the server", ["e.use-agent", "b.state-by-server"], async (defer) => {
  const probe = mount(defer, "StateAgent");
  await probe.identified();
  const other = await ready(defer, "StateAgent", { name: probe.options.name });
  await other.call("increment", [3]);
  await probe.until(showsCount(3), "the count 3");
  assert.deepEqual(probe.log.items.filter(([kind]) => kind === "state").at(-1), ["state", { count: 3 }, "server"]);
});

check("setState renders at once and reaches other hooks", ["e.use-agent-set-state", "b.state-by-client"], async (defer) => {
  const author = mount(defer, "StateAgent");
  await author.identified();
  const other = mount(defer, "StateAgent", { name: author.options.name });
  await other.identified();
  author.agent.setState({ count: 8 });
  assert.deepEqual(author.log.items.at(-1), ["state", { count: 8 }, "client"]);
  await Promise.all([author, other].map((probe) => probe.until(showsCount(8), "the count 8")));
  await author.agent.call("count");
  assert.equal(author.log.items.filter(([kind, , source]) => kind === "state" && source === "server").length, 1);
});

check("a refused state is called back", ["e.state-error", "b.rejected-error"], async (defer) => {
  const probe = mount(defer, "StateAgent");
  await probe.identified();
  probe.agent.setState({ count: -1 });
  const error = await probe.log.first(([kind]) => kind === "state-error", "the state error");
  assert.deepEqual(error, ["state-error", "State update rejected"]);
  await probe.until(showsCount(-1), "the optimistic count");
});

check("calls, stub and errors", ["e.use-agent-call"], async (defer) => {
  const probe = mount(defer, "StateAgent");
  await probe.rendered();
  const early = probe.agent.call("same", ["queued before the socket opened"]);
  assert.equal(await early, "queued before the socket opened");
  assert.equal(await probe.agent.stub.increment(2), 2);
  await probe.until(showsCount(2), "the count 2");
  assert.equal((await rejection(probe.agent.call("fail", ["no luck"]))).message, "no luck");
  const error = await rejection(probe.agent.call("wait_for", ["never"], { timeout: 50 }));
  assert.match(error.message, /timed out after 50ms/);
});

check("streams", ["e.use-agent-call", "b.rpc-stream"], async (defer) => {
  const probe = mount(defer, "StreamAgent");
  await probe.identified();
  const log = [];
  const stream = { onChunk: (chunk) => log.push(chunk), onDone: (last) => log.push(last), onError: (text) => log.push(text) };
  assert.equal(await probe.agent.call("count_to", [2], { stream }), "done");
  await rejection(probe.agent.call("breaks", [], { stream }));
  assert.deepEqual(log, [0, 1, "done", "first", "broke off"]);
});

check("onMessage gets only the application's frames", ["e.use-agent-messages", "b.app-frames"], async (defer) => {
  const probe = mount(defer, "StateAgent", { query: { greet: "hello" } });
  await probe.identified();
  await probe.agent.call("increment");
  probe.agent.setState({ count: -1 });
  probe.agent.send("plain text");
  await probe.log.first(([kind, data]) => kind === "message" && data === "heard:plain text", "the answer");
  const messages = probe.log.items.filter(([kind]) => kind === "message").map(([, data]) => data);
  assert.deepEqual(messages.map((data) => (data.startsWith("{") ? JSON.parse(data) : data)), [
    { type: "greeting", text: "hello" },
    "heard:plain text",
  ]);
});

check("onMcpUpdate gets the empty frame", ["e.use-agent-mcp", "b.mcp-frame"], async (defer) => {
  const probe = mount(defer, "EchoAgent");
  const [, mcp] = await probe.log.first(([kind]) => kind === "mcp", "the MCP frame");
  assert.deepEqual(mcp, { prompts: [], resources: [], servers: {}, tools: [] });
});

check("a final close is rendered", ["e.use-agent-error", "b.final-codes"], async (defer) => {
  const probe = mount(defer, "RoomAgent");
  await probe.identified();
  probe.agent.call("close_me", [4009, "enough"]).catch(() => {});
  const screen = await probe.until(({ error }) => error, "the error");
  assert.deepEqual([screen.error, screen.identified], [[4009, "enough"], false]);
  assert.equal((await rejection(probe.agent.call("me"))).message, "Connection closed");
});

check("any other close renders again after the reconnect", ["e.use-agent-lifecycle", "b.reconnect"], async (defer) => {
  const probe = mount(defer, "RoomAgent");
  await probe.identified();
  const flying = rejection(probe.agent.call("wait_for", ["never"]));
  probe.agent.call("close_me", [1012, "moved"]).catch(() => {});
  assert.equal((await flying).message, "Connection closed");
  await probe.again();
  const kinds = probe.log.items.map(([kind]) => kind).filter((kind) => ["open", "close"].includes(kind));
  assert.deepEqual(kinds, ["open", "close", "open"]);
  assert.equal(probe.screen().error, null);
});

check("unmounting closes the socket", ["e.use-agent-lifecycle", "d.on-close"], async (defer) => {
  const probe = mount(defer, "RoomAgent");
  await probe.identified();
  const watcher = await ready(defer, "RoomAgent", { name: probe.options.name });
  const { id } = probe.agent;
  probe.unmount();
  let seen;
  while (!seen) seen = (await watcher.call("read_journal")).find(([kind]) => kind === "close");
  assert.deepEqual(seen.slice(0, 3), ["close", id, 1000]);
});

check("enabled: false stays away until it is true", ["e.use-agent-enabled"], async (defer) => {
  const probe = mount(defer, "RoomAgent", { enabled: false });
  await probe.rendered();
  const watcher = await ready(defer, "RoomAgent", { name: probe.options.name });
  assert.deepEqual(await watcher.call("ids"), [watcher.id]);
  probe.render({ enabled: true });
  await probe.identified();
  assert.deepEqual(await watcher.call("ids"), [watcher.id, probe.agent.id].sort());
});

check("an async query suspends and is asked before each reconnect", ["e.use-agent-query", "e.query"], async (defer) => {
  let asked = 0;
  const query = async () => ({ token: `t${++asked}` });
  // With the usual delay: the hook replaces the socket before it reconnects by itself.
  const probe = mount(defer, "RoomAgent", { query, minReconnectionDelay: undefined });
  assert.equal(await probe.until((screen) => screen === "suspended", "the fallback"), "suspended");
  await probe.identified();
  const token = (url) => new URL(url, "http://server").searchParams.get("token");
  assert.equal(token((await probe.agent.call("me")).url), "t1");
  probe.agent.call("close_me", [1012, "again"]).catch(() => {});
  await probe.again();
  assert.equal(token((await probe.agent.call("me")).url), "t2");
});

check("getHttpUrl is the instance's address", ["e.use-agent-url"], async (defer) => {
  const probe = mount(defer, "EchoAgent");
  await probe.identified();
  const response = await fetch(probe.agent.getHttpUrl());
  assert.equal((await response.json()).name, probe.options.name);
});

check("hook and plain client see the same", ["e.use-agent", "b.state-by-client"], async (defer) => {
  const probe = mount(defer, "StateAgent");
  await probe.identified();
  const client = connect(defer, { agent: "StateAgent", name: probe.options.name });
  await client.ready;
  client.setState({ count: 21 });
  await probe.until(showsCount(21), "the count 21");
  probe.agent.setState({ count: 22 });
  await client.log.first(({ kind, state }) => kind === "state" && state.count === 22, "the client's state");
});

await runAll();
