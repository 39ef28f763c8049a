// A chat with the Assistant: streaming, tools, approval, stop, clear; as many tabs as you like.
//
// Run: npm ci && npm run build, then durable dev examples/chat/app.py

import { useAgentChat } from "@cloudflare/ai-chat/react";
import { useAgent } from "agents/react";
import { Suspense, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";

/** One call of a tool: what was asked, what came of it, and the question if there is one. */
function Tool({ part, decide }) {
  const name = part.type.replace("tool-", "");
  const asks = part.state === "approval-requested";
  return (
    <span className="tool" data-state={part.state}>
      {name} <code>{JSON.stringify(part.input)}</code>
      {part.state === "output-available" && <> → <code>{JSON.stringify(part.output)}</code></>}
      {part.state === "output-denied" && <> → not allowed</>}
      {asks && (
        <span>
          <br />
          <button className="main approve" onClick={() => decide(part.approval.id, true)}>Allow</button>
          <button className="deny" onClick={() => decide(part.approval.id, false)}>Don’t</button>
        </span>
      )}
    </span>
  );
}

function Message({ message, decide }) {
  return (
    <div className={`message ${message.role}`}>
      {message.parts.map((part, place) => {
        if (part.type === "text") return <span key={place}>{part.text}</span>;
        if (part.type.startsWith("tool-")) return <Tool key={part.toolCallId} part={part} decide={decide} />;
        return null;
      })}
    </div>
  );
}

function Chat({ room }) {
  const agent = useAgent({ agent: "Assistant", name: room });
  const { messages, sendMessage, stop, clearHistory, addToolApprovalResponse, status, error, isStreaming } = useAgentChat({ agent });
  const [text, setText] = useState("");
  const end = useRef(null);
  const busy = isStreaming || status === "submitted";
  useEffect(() => {
    end.current?.scrollIntoView({ block: "end" });
  }, [messages]);

  function say(event) {
    event.preventDefault();
    if (!text.trim()) return;
    sendMessage({ text });
    setText("");
  }

  return (
    <main className="chat" data-status={busy ? "busy" : "ready"}>
      <header>
        <h1>Assistant</h1>
        <button id="stop" onClick={stop} disabled={!busy}>Stop</button>
        <button id="clear" onClick={clearHistory}>Clear</button>
      </header>
      <div className="messages" aria-live="polite">
        {messages.map((message) => (
          <Message key={message.id} message={message} decide={(id, approved) => addToolApprovalResponse({ id, approved })} />
        ))}
        {status === "submitted" && <div className="waiting">…</div>}
        {error && <div className="error" role="alert">{error.message}</div>}
        {messages.length > 0 && <div ref={end} />}
      </div>
      <form onSubmit={say}>
        <input id="text" aria-label="Message" value={text} onChange={({ target }) => setText(target.value)} placeholder="Say something" autoComplete="off" />
        <button id="send" className="main">Send</button>
      </form>
    </main>
  );
}

// The room is in the address, so that a second tab comes into the same one.
const room = location.hash.slice(1) || "lobby";
createRoot(document.getElementById("chat")).render(
  <Suspense fallback="…"><Chat room={room} /></Suspense>,
);
