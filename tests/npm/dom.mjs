// A browser for React: jsdom with a real WebSocket, and components that show a hook.
import { JSDOM } from "jsdom";
import { assert, host, Recorder, unique, WS } from "./harness.mjs";

const { window } = new JSDOM("<!doctype html><body></body>", { url: `http://${host}/` });
const globals = { window, document: window.document, navigator: window.navigator, WebSocket: WS };
for (const [name, value] of Object.entries(globals)) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

const { createElement, Suspense, Component } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useAgent } = await import("agents/react");

/** What a component shows of the hook: everything that is asserted is rendered. */
function shown(agent) {
  return JSON.stringify({
    state: agent.state,
    name: agent.name,
    agent: agent.agent,
    identified: agent.identified,
    path: agent.path,
    error: agent.connectionError && [agent.connectionError.code, agent.connectionError.reason],
  });
}

function Probe({ options, expose }) {
  const agent = useAgent(options);
  expose(agent);
  return createElement("output", null, shown(agent));
}

class Boundary extends Component {
  state = { error: null };

  static getDerivedStateFromError(error) {
    return { error };
  }

  render() {
    return this.state.error ? `failed: ${this.state.error.stack}` : this.props.children;
  }
}

/** A mounted useAgent: `screen()` is what is rendered, `agent` what it returned. */
export function mount(defer, agentClass, given = {}) {
  const container = document.createElement("div");
  document.body.append(container);
  const root = createRoot(container);
  const texts = new Recorder();
  const log = new Recorder();
  new window.MutationObserver(() => texts.push(container.textContent)).observe(container, {
    childList: true, characterData: true, subtree: true,
  });
  const record = (kind) => (...args) => log.push([kind, ...args]);
  const options = {
    agent: agentClass, name: unique(), host, minReconnectionDelay: 20,
    onStateUpdate: record("state"), onStateUpdateError: record("state-error"),
    onIdentity: record("identity"), onConnectionError: record("connection-error"),
    onMcpUpdate: record("mcp"), onMessage: ({ data }) => log.push(["message", data]),
    onOpen: () => log.push(["open"]), onClose: ({ code }) => log.push(["close", code]),
    ...given,
  };
  const probe = { log, texts, options };
  const expose = (agent) => (probe.agent = agent);
  const fallback = createElement("output", null, JSON.stringify("suspended"));
  probe.render = (changes = {}) => {
    Object.assign(options, changes);
    const element = createElement(Probe, { options: { ...options }, expose });
    root.render(createElement(Boundary, null, createElement(Suspense, { fallback }, element)));
  };
  probe.screen = () => container.textContent && screenOf(container);
  probe.until = (match, what) => texts.until(() => {
    const now = probe.screen();
    return now && match(now) && now;
  }, what);
  probe.rendered = () => probe.until(() => true, "the first rendering");
  probe.identified = () => probe.until(({ identified }) => identified, "an identified hook");
  // Not by the screen: React may render loss and return of the identity as one.
  probe.again = async () => {
    const identities = (items) => items.filter(([kind]) => kind === "identity").length;
    await log.until((items) => identities(items) > 1, "a second identity");
    await probe.identified();
  };
  probe.unmount = () => root.unmount();
  defer(() => root.unmount());
  probe.render();
  return probe;
}

/** While React suspends again it hides the old output and shows the fallback. */
function screenOf(container) {
  const visible = [...container.querySelectorAll("output")].filter(({ style }) => style.display !== "none");
  assert.equal(visible.length, 1, container.textContent);
  return JSON.parse(visible[0].textContent);
}
