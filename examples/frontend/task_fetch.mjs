// agentFetch: plain HTTP to TaskManager of pages.py.
//
// Run: node task_fetch.mjs [127.0.0.1:8787]

import { agentFetch } from "agents/client";

const response = await agentFetch(
  { agent: "task-manager", name: "user-123-tasks", host: process.argv[2] ?? "127.0.0.1:8787" },
  { method: "GET", headers: { Authorization: "Bearer my-token" } },
);
if (!response.ok) throw new Error(`Error: ${response.status}`);
console.log(await response.json());
