// Many AgentClients that call without end and compare what comes by its numbers.
//
// `node crowd.mjs` reads a JSON line of options: { hosts, sockets, agents, every, streams }.
// It prints `ready` when all are connected. Each line of stdin is a command that is
// answered by a JSON line: `report` (and forget what was reported), `settle` (stop calling,
// wait for what is under way), `end`.
import { createInterface } from "node:readline";
import { AgentClient } from "agents/client";
import WS from "ws";

for (const level of ["log", "info", "warn"]) console[level] = console.error;

const CHUNKS = 10;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { hosts, sockets, agents, every, streams } = JSON.parse((await lines.next()).value);

const fresh = () => ({ calls: 0, latencies: [], closes: [], failures: [], wrong: [] });
let seen = fresh();
let calling = every > 0;
const wrong = (text) => seen.wrong.length < 20 && seen.wrong.push(text);

class Member {
  last = -1; // the count of the newest state
  calls = new Set();
  made = 0;

  constructor(number) {
    this.number = number;
    this.name = `crowd-${number % agents}`;
    this.client = new AgentClient({
      agent: "Stroller",
      name: this.name,
      host: hosts[number % hosts.length],
      WebSocket: WS,
      minReconnectionDelay: 100,
      maxReconnectionDelay: 1000,
      onStateUpdate: ({ count }) => {
        if (count < this.last) wrong(`${this.name}: state ${count} after ${this.last}`);
        this.last = count;
      },
    });
    this.client.addEventListener("close", ({ code, reason }) => seen.closes.push(`${code} ${reason}`));
  }

  /** Call at a steady rate, whether the last call was answered or not. */
  begin() {
    const first = Math.random() * every;
    setTimeout(() => this.timer = setInterval(() => calling && this.call(), every), first);
  }

  call() {
    const number = this.made++;
    const started = performance.now();
    const streaming = number % streams === this.number % streams;
    const call = (streaming ? this.stream(number) : this.client.call("step", [number]))
      .then((echoed) => {
        seen.calls += 1;
        if (!streaming) seen.latencies.push(performance.now() - started);
        if (echoed !== number) wrong(`${this.name}: call ${number} was answered ${echoed}`);
      }, (error) => seen.failures.push(String(error?.message ?? error)))
      .finally(() => this.calls.delete(call));
    this.calls.add(call);
  }

  async stream(number) {
    const chunks = [];
    const echoed = await this.client.call("stroll", [number, CHUNKS], { stream: { onChunk: (chunk) => chunks.push(chunk) } });
    const expected = Array.from({ length: CHUNKS }, (_, place) => place);
    if (chunks.join() !== expected.join()) wrong(`${this.name}: chunks ${chunks}`);
    return echoed;
  }
}

const members = Array.from({ length: sockets }, (_, number) => new Member(number));
await Promise.all(members.map(({ client }) => client.ready));
if (calling) for (const member of members) member.begin();

function report() {
  const { latencies, closes, failures, ...rest } = seen;
  seen = fresh();
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.floor(latencies.length * share)] ?? null;
  const counted = (list) => list.reduce((sums, item) => ({ ...sums, [item]: (sums[item] ?? 0) + 1 }), {});
  return { ...rest, p50: at(0.5), p99: at(0.99), worst: latencies.at(-1) ?? null, closes: counted(closes), failures: counted(failures) };
}

const commands = {
  report,
  states: () => members.map(({ name, last, client }) => [name, last, client.readyState === 1]),
  settle: async () => {
    calling = false;
    await Promise.all(members.flatMap(({ calls }) => [...calls]));
    return "settled";
  },
};

process.stdout.write("ready\n");
for await (const line of lines) {
  if (line === "end") break;
  process.stdout.write(`${JSON.stringify(await commands[line]())}\n`);
}
process.exit(0);
