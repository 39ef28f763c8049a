// AgentClient in Node: asks DialogueAgent of pages.py, or of ../websockets/dialogue.py.
//
// Run: node dialogue_client.mjs [127.0.0.1:8787]     (Node 20: node --experimental-websocket …)

import { AgentClient } from "agents/client";

const connection = new AgentClient({
  agent: "dialogue-agent",
  name: "insight-seeker",
  host: process.argv[2] ?? "127.0.0.1:8787",
});

connection.addEventListener("message", (event) => {
  const message = JSON.parse(event.data);
  if (message.type !== "insight") return;
  console.log("Received:", event.data);
  connection.close();
});

// It need not be open yet: what is sent before goes out once it is.
connection.send(JSON.stringify({ type: "inquiry", content: "What patterns do you see?" }));
