// useAgent with messages of our own: the counterpart of DialogueAgent in pages.py.
//
// Run: npm run build, then open the page of pages.py.

import { useState } from "react";
import { useAgent } from "agents/react";

export function AgentInterface() {
  const [insight, setInsight] = useState("nothing yet");
  const [connected, setConnected] = useState(false);

  const connection = useAgent({
    agent: "dialogue-agent",
    name: "insight-seeker",
    // State, calls and the like are taken care of; here arrives what is ours.
    onMessage: (message) => setInsight(message.data),
    onOpen: () => setConnected(true),
    onClose: () => setConnected(false),
  });

  const inquire = () => {
    connection.send(
      JSON.stringify({ type: "inquiry", content: "What insights have you gathered?" }),
    );
  };

  return (
    <>
      <p>{connected ? "Connected" : "Connecting…"}; heard: <code id="insight">{insight}</code></p>
      <button id="inquire" onClick={inquire}>Seek understanding</button>
    </>
  );
}
