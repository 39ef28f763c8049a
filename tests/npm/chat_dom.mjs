// useAgentChat mounted by React: everything that is asserted of it is rendered.
import "./dom.mjs";
import { host, Recorder, unique } from "./harness.mjs";

const { createElement, Suspense } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useAgent } = await import("agents/react");
const { useAgentChat } = await import("@cloudflare/ai-chat/react");

/** One message in short: `user: text`, `assistant: text [tool state] ...`. */
export function shortly({ role, parts }) {
  const texts = parts.map((part) => {
    if (part.type === "text") return part.text.trim();
    if (part.type.startsWith("tool-")) return `[${part.toolCallId} ${part.state}]`;
    return part.type === "step-start" ? "" : `[${part.type}]`;
  });
  return `${role}: ${texts.filter(Boolean).join(" ")}`.trim();
}

function Probe({ agentOptions, chatOptions, expose }) {
  const agent = useAgent(agentOptions);
  const chat = useAgentChat({ agent, throttle: false, ...chatOptions });
  expose(agent, chat);
  const { status, error, isServerStreaming, isStreaming, isRecovering } = chat;
  const shown = { messages: chat.messages.map(shortly), status, error: error?.message, isServerStreaming, isStreaming, isRecovering };
  return createElement("output", null, JSON.stringify(shown));
}

/** A mounted chat: `screen()` is what is rendered, `chat` what the hook returned. */
export function mountChat(defer, agentClass, given = {}, chatOptions = {}) {
  const container = document.createElement("div");
  document.body.append(container);
  const root = createRoot(container);
  const texts = new Recorder();
  const probe = { texts, ends: new Recorder(), frames: new Recorder() };
  new window.MutationObserver(() => texts.push(container.textContent)).observe(container, {
    childList: true, characterData: true, subtree: true,
  });
  const onMessage = ({ data }) => probe.frames.push(JSON.parse(data));
  const agentOptions = { agent: agentClass, name: unique("chat"), host, minReconnectionDelay: 20, onMessage, ...given };
  const expose = (agent, chat) => Object.assign(probe, { agent, chat });
  const options = { onTurnEnd: (end) => probe.ends.push(end), ...chatOptions };
  const element = createElement(Probe, { agentOptions, chatOptions: options, expose });
  root.render(createElement(Suspense, { fallback: "suspended" }, element));
  defer(() => root.unmount());
  probe.name = agentOptions.name;
  probe.unmount = () => root.unmount();
  probe.screen = () => {
    const [first] = container.childNodes;
    const text = [...container.childNodes].find((node) => node.style?.display !== "none" && node !== undefined)?.textContent;
    return first && text !== "suspended" ? JSON.parse(text) : null;
  };
  probe.until = (match, what) => texts.until(() => {
    const now = probe.screen();
    return now && match(now) && now;
  }, what);
  probe.shows = (messages, status = "ready") =>
    probe.until((now) => now.status === status && JSON.stringify(now.messages) === JSON.stringify(messages), `${status} ${JSON.stringify(messages)}`);
  probe.mounted = async () => {
    await probe.until(() => true, "the first rendering");
    await probe.agent.ready;
    return probe;
  };
  probe.say = (text, options) => probe.chat.sendMessage({ text }, options);
  return probe;
}

/**
 * A chat that is mounted and connected. One that joins another is given the history: the
 * hooks of one page share what they fetched of it.
 */
export async function chatting(defer, agentClass = "ChatAgent", { join } = {}, options = {}) {
  if (!join) return mountChat(defer, agentClass, {}, options).mounted();
  const messages = await stored(join);
  return mountChat(defer, agentClass, { name: join.name }, { getInitialMessages: null, messages, ...options }).mounted();
}

/** What the server has stored. */
export async function stored(probe) {
  const { agent, name } = probe.agent;
  const response = await fetch(`http://${host}/agents/${agent}/${name}/get-messages`);
  return response.json();
}
