// agents/client: identity, state, calls, streams and what is around them.
import { agentFetch, AgentClient } from "agents/client";
import { assert, check, connect, host, ready, rejection, runAll, states, unique, WS } from "./harness.mjs";

const EMPTY_MCP = {
  type: "cf_agent_mcp_servers",
  mcp: { prompts: [], resources: [], servers: {}, tools: [] },
};

check("the client learns name and agent", ["b.identity-first", "e.members", "e.on-identity", "a.identity-agent"], async (defer) => {
  const name = unique();
  const client = connect(defer, { agent: "StateAgent", name });
  assert.equal(client.identified, false);
  await client.ready;
  assert.deepEqual([client.name, client.agent, client.identified], [name, "state-agent", true]);
  assert.deepEqual(client.kinds("identity"), [{ kind: "identity", name, agent: "state-agent" }]);
  assert.equal(client.frames()[0].type, "cf_agent_identity");
  assert.match(client.id, /^[0-9a-f-]{36}$/);
});

check("without a name the instance is `default`", ["a.default-name"], async (defer) => {
  const client = connect(defer, { agent: "EchoAgent" });
  await client.ready;
  assert.equal(client.name, "default");
  assert.equal(client.frames()[0].name, "default");
});

check("ready comes after the state that follows", ["e.ready", "b.state-follows", "b.state-on-connect", "e.state-callback"], async (defer) => {
  const client = await ready(defer, "StateAgent");
  assert.deepEqual(client.state, { count: 0 });
  const kinds = client.log.items.map(({ kind }) => kind).filter((kind) => ["state", "identity"].includes(kind));
  assert.deepEqual(kinds, ["state", "identity"]);
  assert.deepEqual(client.kinds("state"), [{ kind: "state", state: { count: 0 }, source: "server" }]);
  assert.equal(client.frames()[0].stateFollows, true);
});

check("ready comes without a state where there is none", ["b.state-follows", "f.2"], async (defer) => {
  const client = await ready(defer, "EchoAgent");
  assert.equal(client.state, undefined);
  assert.equal("stateFollows" in client.frames()[0], false);
});

check("a null state arrives and is announced", ["b.null-state", "f.12"], async (defer) => {
  const first = await ready(defer, "LateStateAgent");
  await first.call("replace", [null]);
  assert.deepEqual(states(first), [null]);
  const second = await ready(defer, "LateStateAgent", { name: first.name });
  assert.equal(second.state, null);
  assert.equal(second.frames()[0].stateFollows, true);
});

check("identity, state, MCP servers, then the application", ["b.connect-order", "b.mcp-frame", "b.app-frames", "e.query"], async (defer) => {
  const client = await ready(defer, "StateAgent", { query: { greet: "hello" } });
  await client.log.first(({ frame }) => frame?.type === "greeting", "the greeting");
  const [identity, state, mcp, greeting] = client.frames();
  assert.deepEqual([identity.type, state.type], ["cf_agent_identity", "cf_agent_state"]);
  assert.deepEqual(mcp, EMPTY_MCP);
  assert.deepEqual(greeting, { type: "greeting", text: "hello" });
});

check("an agent without state still sends the MCP frame", ["b.mcp-frame", "f.4"], async (defer) => {
  const client = await ready(defer, "EchoAgent");
  await client.call("read_journal");
  assert.deepEqual(client.frames()[1], EMPTY_MCP);
});

check("a client's state reaches the others, not its author", ["e.set-state", "b.state-by-client", "f.3"], async (defer) => {
  const author = await ready(defer, "StateAgent");
  const other = await ready(defer, "StateAgent", { name: author.name });
  author.setState({ count: 7 });
  assert.deepEqual(author.state, { count: 7 });
  assert.deepEqual(author.kinds("state").at(-1), { kind: "state", state: { count: 7 }, source: "client" });
  assert.equal(await author.call("count"), 7);
  await other.log.first(({ kind, state }) => kind === "state" && state.count === 7, "the other's state");
  assert.deepEqual(states(author), [{ count: 0 }]);
  assert.deepEqual(states(other), [{ count: 0 }, { count: 7 }]);
});

check("the server's change reaches its caller before the reply", ["b.state-by-server", "b.state-after-change", "f.3"], async (defer) => {
  const caller = await ready(defer, "StateAgent");
  const other = await ready(defer, "StateAgent", { name: caller.name });
  assert.equal(await caller.call("increment", [2]), 2);
  assert.deepEqual(caller.state, { count: 2 });
  const types = caller.frames().map(({ type }) => type);
  assert.ok(types.lastIndexOf("cf_agent_state") < types.lastIndexOf("rpc"));
  assert.equal(await other.call("count"), 2);
  assert.deepEqual(states(other), [{ count: 0 }, { count: 2 }]);
});

check("a refused state is told to its author alone", ["b.rejected-error", "b.rejected-not-corrected", "e.state-error"], async (defer) => {
  const author = await ready(defer, "StateAgent");
  const other = await ready(defer, "StateAgent", { name: author.name });
  author.setState({ count: -1 });
  assert.equal(await author.call("count"), 0);
  await other.call("count");
  assert.deepEqual(author.kinds("state-error"), [{ kind: "state-error", error: "State update rejected" }]);
  assert.deepEqual(author.state, { count: -1 });
  assert.deepEqual([states(author), states(other)], [[{ count: 0 }], [{ count: 0 }]]);
});

check("a readonly client may call but set nothing", ["b.readonly-error", "b.readonly-rpc"], async (defer) => {
  const client = await ready(defer, "StateAgent", { query: { readonly: "1" } });
  client.setState({ count: 5 });
  assert.equal(await client.call("count"), 0);
  assert.deepEqual(client.kinds("state-error"), [{ kind: "state-error", error: "Connection is readonly" }]);
  assert.equal((await rejection(client.call("increment"))).message, "Connection is readonly");
  assert.equal(await client.call("count"), 0);
});

check("no identity where the agent sends none", ["b.no-identity"], async (defer) => {
  const client = connect(defer, { agent: "QuietAgent", name: unique() });
  assert.deepEqual((await client.call("read_journal")).length, 1);
  assert.equal(client.identified, false);
  const types = client.frames().map(({ type }) => type);
  assert.deepEqual(types, ["cf_agent_state", "cf_agent_mcp_servers", "rpc"]);
});

check("a silent connection hears only the application and its calls", ["b.no-protocol"], async (defer) => {
  const silent = connect(defer, { agent: "StateAgent", name: unique(), query: { silent: "1", greet: "hi" } });
  assert.equal(await silent.call("increment"), 1);
  const author = await ready(defer, "StateAgent", { name: silent.name });
  author.setState({ count: 9 });
  await author.call("count");
  assert.equal(await silent.call("count"), 9);
  assert.deepEqual(silent.frames().map(({ type }) => type), ["greeting", "rpc", "rpc"]);
});

check("results and errors of calls", ["b.rpc-result", "b.rpc-undefined", "b.rpc-exception", "b.rpc-error", "f.4"], async (defer) => {
  const client = await ready(defer, "StateAgent");
  const value = { text: "ä\u2028", list: [1, 2.5, null, true], deep: { er: {} } };
  assert.deepEqual(await client.call("same", [value]), value);
  assert.equal(client.frames().at(-1).done, true);
  assert.equal(await client.call("nothing"), undefined);
  assert.equal("result" in client.frames().at(-1), false);
  assert.equal((await rejection(client.call("fail", ["no luck"]))).message, "no luck");
  assert.equal("done" in client.frames().at(-1), false);
});

check("what can't be called says why", ["b.rpc-unknown", "b.rpc-not-callable"], async (defer) => {
  const client = await ready(defer, "StateAgent");
  const texts = {};
  for (const method of ["absent", "label", "undecorated", "set_state"]) {
    texts[method] = (await rejection(client.call(method))).message;
  }
  assert.deepEqual(texts, {
    absent: "Method absent does not exist",
    label: "Method label does not exist",
    undecorated: "Method undecorated is not callable",
    set_state: "Method set_state is not callable",
  });
});

check("the stub calls by name", ["e.stub"], async (defer) => {
  const client = await ready(defer, "StateAgent");
  assert.equal(await client.stub.increment(3), 3);
  assert.equal((await rejection(client.stub.absent())).message, "Method absent does not exist");
});

check("a slow call blocks neither calls nor state", ["b.rpc-interleave", "f.7"], async (defer) => {
  const client = await ready(defer, "StateAgent");
  const slow = client.call("wait_for", ["g"]);
  assert.equal(await client.call("increment"), 1);
  client.setState({ count: 5 });
  assert.equal(await client.call("count"), 5);
  await client.call("release", ["g"]);
  assert.equal(await slow, "g");
});

check("a reply goes to its caller only", ["b.rpc-caller-only"], async (defer) => {
  const caller = await ready(defer, "StateAgent");
  const other = await ready(defer, "StateAgent", { name: caller.name });
  assert.equal(await caller.call("same", ["mine"]), "mine");
  await other.call("same", ["other"]);
  const results = other.frames().filter(({ type }) => type === "rpc").map(({ result }) => result);
  assert.deepEqual(results, ["other"]);
});

function streamed(log = []) {
  return {
    log,
    stream: {
      onChunk: (chunk) => log.push(["chunk", chunk]),
      onDone: (last) => log.push(["done", last]),
      onError: (error) => log.push(["error", error]),
    },
  };
}

check("a stream ends with its final value", ["b.rpc-stream", "e.stream-callbacks", "b.stream-first-argument"], async (defer) => {
  const client = await ready(defer, "StreamAgent");
  const { log, stream } = streamed();
  assert.equal(await client.call("count_to", [3], { stream }), "done");
  assert.deepEqual(log, [["chunk", 0], ["chunk", 1], ["chunk", 2], ["done", "done"]]);
});

check("a stream that fails says so", ["b.stream-exception", "e.stream-callbacks"], async (defer) => {
  const client = await ready(defer, "StreamAgent");
  const { log, stream } = streamed();
  assert.equal((await rejection(client.call("breaks", [], { stream }))).message, "broke off");
  assert.deepEqual(log, [["chunk", "first"], ["error", "broke off"]]);
  const text = (await rejection(client.call("says_error", [], { stream }))).message;
  assert.equal(text, "an error of its own");
});

check("after its end a stream says nothing more", ["b.stream-exception", "d.stream-closed"], async (defer) => {
  const client = await ready(defer, "StreamAgent");
  assert.equal(await client.call("ends_then_raises", [], streamed()), "ended");
  assert.equal(await client.call("after_end", [], streamed()), "ended");
  const journal = await client.call("read_journal");
  assert.deepEqual(journal.at(-1), ["closed", false, true, false, false]);
  assert.equal(client.frames().filter(({ type }) => type === "rpc").length, 3);
});

check("a stream without end stays open and has no timeout", ["b.stream-left-open", "e.call-timeout"], async (defer) => {
  const client = await ready(defer, "StreamAgent", { defaultCallTimeout: 1000 });
  const { log, stream } = streamed();
  let settled = false;
  const settle = () => (settled = true);
  await new Promise((resolve) => {
    stream.onChunk = (chunk) => resolve(log.push(["chunk", chunk]));
    client.call("never_ends", [], { stream }).then(settle, settle);
  });
  const error = await rejection(client.call("wait_for", ["never"]));
  assert.equal(error.message, "RPC call to wait_for timed out after 1000ms");
  assert.deepEqual([settled, log], [false, [["chunk", "only chunk"]]]);
  assert.equal((await client.call("read_journal")).length, 2);
});

check("a call has its own timeout", ["e.call-timeout"], async (defer) => {
  const client = await ready(defer, "StateAgent");
  const error = await rejection(client.call("wait_for", ["never"], { timeout: 50 }));
  assert.equal(error.message, "RPC call to wait_for timed out after 50ms");
});

check("the name stays percent-encoded", ["a.raw-name", "f.1"], async (defer) => {
  const plain = unique("a b");
  const client = await ready(defer, "EchoAgent", { name: plain });
  assert.equal(client.name, plain.replace(" ", "%20"));
});

check("the connection has the client's id", ["a.connection-id", "d.connection"], async (defer) => {
  const client = await ready(defer, "RoomAgent");
  assert.equal((await client.call("me")).id, client.id);
});

check("path, query and prefix reach the agent", ["a.path-appended", "e.query", "a.prefix"], async (defer) => {
  const client = await ready(defer, "RoomAgent", { prefix: "api/v2", path: "sub/way", query: { x: "1 2" } });
  const { url } = await client.call("me");
  const { pathname, searchParams } = new URL(url, "http://server");
  assert.equal(pathname, `/api/v2/room-agent/${client.name}/sub/way`);
  assert.equal(searchParams.get("x"), "1 2");
});

check("with basePath the identity tells who it is", ["a.base-path"], async (defer) => {
  const user = unique("user");
  const client = connect(defer, { agent: "StateAgent", basePath: "me", query: { user } });
  await client.ready;
  assert.deepEqual([client.name, client.agent], [user, "state-agent"]);
  assert.equal(await client.call("increment"), 1);
});

check("agentFetch reaches the instance", ["e.agent-fetch"], async () => {
  const name = unique();
  const response = await agentFetch({ agent: "EchoAgent", name, host, path: "some/path", query: { q: "v" } }, { method: "POST", body: "sent" });
  const seen = await response.json();
  assert.deepEqual([seen.name, seen.method, seen.body, seen.query], [name, "POST", "sent", { q: "v" }]);
  assert.equal(new URL(seen.url, "http://server").pathname, `/agents/echo-agent/${name}/some/path`);
});

check("binary and text come back as they were", ["f.14", "b.binary-message", "b.other-text"], async (defer) => {
  const client = await ready(defer, "EchoAgent");
  const bytes = new Uint8Array([0, 255, 10, 13, 128]);
  const text = "é".repeat(400_000);
  client.send(bytes);
  client.send(text);
  await client.log.first(({ frame }) => typeof frame === "string", "the text");
  const [binary, string] = client.frames().slice(2);
  assert.deepEqual(new Uint8Array(binary), bytes);
  assert.equal(string, text);
});

check("local hosts get ws, others wss", ["e.host-protocol"], async (defer) => {
  const client = await ready(defer, "EchoAgent");
  assert.ok(client.url.startsWith(`ws://${host}/`));
  const url = (options) => new AgentClient({ agent: "X", WebSocket: WS, startClosed: true, ...options }).roomUrl;
  assert.equal(url({ host: "example.com" }), "wss://example.com/agents/x/default");
  assert.equal(url({ host: "example.com", protocol: "ws" }), "ws://example.com/agents/x/default");
  assert.equal(url({ host: "192.168.0.1" }), "ws://192.168.0.1/agents/x/default");
});

await runAll();
