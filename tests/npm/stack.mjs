// The stock client through a load balancer, for tests/docker: adds 1 whenever the test
// writes a line, prints what it knows after each, and how often its socket was closed.
import { createInterface } from "node:readline";
import { AgentClient } from "agents/client";
import WS from "ws";

for (const level of ["log", "info", "warn"]) console[level] = console.error;

let closes = 0;
const client = new AgentClient({
  agent: "room",
  name: process.env.ROOM,
  host: process.env.WIRE_HOST,
  protocol: "ws",
  WebSocket: WS,
});
client.addEventListener("close", () => (closes += 1));
await client.ready;
process.stdout.write(`${JSON.stringify({ state: client.state, closes })}\n`);
for await (const _ of createInterface({ input: process.stdin })) {
  let result;
  try {
    result = await client.call("add", [1]);
  } catch (error) {
    result = String(error.message);
  }
  process.stdout.write(`${JSON.stringify({ result, state: client.state, closes })}\n`);
}
process.exit(0);
