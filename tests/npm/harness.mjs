// Runs the checks of one driver together and prints one JSON line for each.
//
// The Python side reads the names and rules of the checks from the text of the
// drivers, so a check is always written `check("name", ["rule", ...], async ...`.
// WIRE_HOST is the server, WIRE_ONLY a JSON list of the checks to run (default: all).
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { AgentClient } from "agents/client";
import WS from "ws";

export const host = process.env.WIRE_HOST;
export { assert, WS };

const LIMIT_MS = 20_000;
const checks = [];
// stdout carries the results; what the packages print goes to stderr.
for (const level of ["log", "info", "warn"]) console[level] = console.error;

export function check(name, rules, run) {
  checks.push({ name, rules, run });
}

async function settle({ name, run }) {
  const cleanup = [];
  let timer;
  const started = Date.now();
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done in ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  let outcome = { ok: true, detail: "" };
  try {
    await Promise.race([run((undo) => cleanup.push(undo)), limit]);
  } catch (error) {
    outcome = { ok: false, detail: String(error?.stack ?? error) };
  }
  clearTimeout(timer);
  for (const undo of cleanup.reverse()) undo();
  const line = { name, ...outcome, ms: Date.now() - started };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

export async function runAll() {
  const only = process.env.WIRE_ONLY ? new Set(JSON.parse(process.env.WIRE_ONLY)) : null;
  await Promise.all(checks.filter(({ name }) => !only || only.has(name)).map(settle));
  process.exit(0);
}

/** A name that no other check uses. */
export function unique(prefix = "room") {
  return `${prefix}-${randomUUID().slice(0, 8)}`;
}

/** A list that can be waited on: what arrived so far, in order. */
export class Recorder {
  items = [];
  #waiting = new Set();

  push(item) {
    this.items.push(item);
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves with what `find` returns for the list, once that is truthy. */
  until(find, what = "what is awaited") {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(`${what} did not come; got ${JSON.stringify(this.items)}`));
      }, LIMIT_MS / 2);
      const look = () => {
        const found = find(this.items);
        if (!found) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(found);
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** Resolves with the first item that matches. */
  first(match, what) {
    return this.until((items) => {
      const index = items.findIndex(match);
      return index >= 0 && { item: items[index], index };
    }, what).then(({ item }) => item);
  }
}

function parsed(data) {
  if (typeof data !== "string") return data;
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

/**
 * An AgentClient whose frames, state updates, closes and identities are recorded.
 * It reconnects quickly unless told otherwise: the real delay has a check of its own.
 */
export function connect(defer, options) {
  const log = new Recorder();
  const client = new AgentClient({
    host,
    WebSocket: WS,
    minReconnectionDelay: 20,
    onStateUpdate: (state, source) => log.push({ kind: "state", state, source }),
    onStateUpdateError: (error) => log.push({ kind: "state-error", error }),
    onIdentity: (name, agent) => log.push({ kind: "identity", name, agent }),
    onIdentityChange: (...args) => log.push({ kind: "identity-change", args }),
    onConnectionError: (error) => log.push({ kind: "connection-error", error }),
    ...options,
  });
  client.binaryType = "arraybuffer";
  client.addEventListener("open", () => log.push({ kind: "open" }));
  client.addEventListener("close", ({ code, reason }) => log.push({ kind: "close", code, reason }));
  client.addEventListener("message", ({ data }) => log.push({ kind: "frame", frame: parsed(data) }));
  client.addEventListener("error", () => log.push({ kind: "socket-error" }));
  client.log = log;
  client.frames = () => log.items.filter(({ kind }) => kind === "frame").map(({ frame }) => frame);
  client.kinds = (kind) => log.items.filter((item) => item.kind === kind);
  defer(() => client.close());
  return client;
}

/** The same, ready: on a new instance of the agent unless `name` says which. */
export async function ready(defer, agent, options = {}) {
  const client = connect(defer, { agent, name: unique(), ...options });
  await client.ready;
  return client;
}

/** The error of a promise that must reject. */
export async function rejection(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("resolved, though it had to reject");
}

/** The state frames among the client's frames. */
export function states(client) {
  return client.frames().filter(({ type }) => type === "cf_agent_state").map(({ state }) => state);
}
