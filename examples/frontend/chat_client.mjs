// AgentClient on a page without a framework: the counterpart of ChatAgent in pages.py.
//
// Run: npm run build, then open the page of pages.py in two tabs.

import { AgentClient } from "agents/client";

const client = new AgentClient({
  agent: "chat-agent", // the class name in kebab-case
  name: "support-room-123", // which instance
  host: window.location.host,
});

client.onopen = () => {
  // Also after a reconnect: say again who we are.
  client.send(JSON.stringify({ type: "join", user: "user123" }));
};

client.onmessage = (event) => {
  const said = JSON.parse(event.data);
  if (said.type !== "message") return; // identity and the like pass by here, too
  const item = document.createElement("li");
  item.textContent = `${said.user}: ${said.text}`;
  document.getElementById("heard").append(item);
};

client.onclose = () => console.log("Disconnected from the agent");

document.getElementById("say").onsubmit = (event) => {
  event.preventDefault();
  const text = document.getElementById("text");
  client.send(JSON.stringify({ type: "message", text: text.value, timestamp: Date.now() }));
  text.value = "";
};
