// The agents' wire over one WebSocket: state both ways, calls, streams, reconnection.
//
// Events: "status" (see .status), "state" (.state changed), "refused" (a state of ours
// was turned down), "identity", and "message" for every frame that isn't protocol.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;
const CALL_TIMEOUT = 30000;

// randomUUID exists only in secure contexts; the demo may be opened over plain http.
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// 1008 and 4000-4999 mean "don't come back"; every other close is worth another try.
const isFinal = (code) => code === 1008 || (code >= 4000 && code <= 4999);

export class AgentSocket extends EventTarget {
  #agent; #name; #query; #socket = null; #timer = null;
  #calls = new Map(); #failures = 0; #before = null;

  status = "connecting"; // connecting | open | waiting | closed
  retryAt = 0;
  state = undefined;

  constructor({ agent, name, query = {} }) {
    super();
    this.#agent = agent;
    this.#name = name;
    this.#query = new URLSearchParams({ ...query, _pk: randomId() });
    addEventListener("online", () => this.retryNow());
    // A page that is kept for "back" would stay in the room: leave, return when shown.
    addEventListener("pagehide", () => this.#socket.close());
    addEventListener("pageshow", () => this.retryNow());
    this.#connect();
  }

  get url() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const path = `/agents/${this.#agent}/${encodeURIComponent(this.#name)}`;
    return `${scheme}://${location.host}${path}?${this.#query}`;
  }

  /** Call a method; chunks of a streamed one go to onChunk, the final value is returned. */
  call(method, args = [], { onChunk } = {}) {
    return new Promise((resolve, reject) => {
      if (this.status !== "open") {
        reject(new Error("Not connected"));
        return;
      }
      const id = randomId();
      const timer = onChunk ? null : setTimeout(() => {
        this.#calls.delete(id);
        reject(new Error(`${method} did not answer in time`));
      }, CALL_TIMEOUT);
      this.#calls.set(id, { resolve, reject, onChunk, timer });
      this.#socket.send(JSON.stringify({ type: "rpc", id, method, args }));
    });
  }

  /** Write the state. It shows here at once, and goes back if the agent refuses it. */
  setState(state) {
    if (this.status !== "open") return;
    this.#socket.send(JSON.stringify({ type: "cf_agent_state", state }));
    this.#before ??= { state: this.state };
    this.#show(state);
  }

  retryNow() {
    if (this.status === "waiting") this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#enter("connecting");
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    socket.onopen = () => { this.#failures = 0; this.#enter("open"); };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#lost(event);
  }

  #lost(event) {
    for (const call of this.#calls.values()) {
      clearTimeout(call.timer);
      call.reject(new Error("Connection closed"));
    }
    this.#calls.clear();
    if (isFinal(event.code)) {
      this.#enter("closed");
      return;
    }
    // Spread the returns, so that a restarted server isn't met by all tabs at once.
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 1.6 ** this.#failures++);
    const delay = wait * (0.7 + 0.3 * Math.random());
    this.retryAt = Date.now() + delay;
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#enter("waiting");
  }

  #receive(data) {
    const frame = parse(data);
    if (frame?.type === "cf_agent_state_error") return this.#refuse(frame.error);
    this.#before = null; // the agent has spoken since our last write: it stands
    switch (frame?.type) {
      case "cf_agent_identity": return this.#emit("identity", frame);
      case "cf_agent_mcp_servers": return undefined;
      case "cf_agent_state": return this.#show(frame.state);
      case "rpc": return this.#settle(frame);
      default: return this.#emit("message", frame ?? data);
    }
  }

  #settle(frame) {
    const call = this.#calls.get(frame.id);
    if (!call) return;
    if (frame.success && frame.done === false) {
      call.onChunk?.(frame.result);
      return;
    }
    clearTimeout(call.timer);
    this.#calls.delete(frame.id);
    if (frame.success) call.resolve(frame.result);
    else call.reject(new Error(frame.error));
  }

  #refuse(error) {
    if (this.#before) this.#show(this.#before.state);
    this.#before = null;
    this.#emit("refused", error);
  }

  #show(state) {
    this.state = state;
    this.#emit("state", state);
  }

  #enter(status) {
    this.status = status;
    this.#emit("status", status);
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function parse(data) {
  try {
    return typeof data === "string" ? JSON.parse(data) : null;
  } catch {
    return null;
  }
}
