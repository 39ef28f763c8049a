// The page: what the room says is shown, what the visitor does is sent. No build step.

import { AgentSocket } from "/agent-socket.js";

const $ = (id) => document.getElementById(id);
const COLOURS = ["amber", "coral", "violet", "blue", "teal", "green"];
const BIRDS = ["Avocet", "Bunting", "Curlew", "Dipper", "Egret", "Finch", "Godwit", "Heron",
  "Ibis", "Jackdaw", "Kestrel", "Lapwing", "Martin", "Nuthatch", "Osprey", "Plover",
  "Redstart", "Siskin", "Turnstone", "Wren"];
const METHODS = {
  add: "[5]",
  history: "[3]",
  reset: "[]",
  "add, with a bad argument": '["many"]',
  "no_such_method": "[]",
};
const ROWS_SHOWN = 50;

const room = new URLSearchParams(location.search).get("room")?.trim() || "lobby";
const me = sessionName();
const agent = new AgentSocket({ agent: "room", name: room, query: { who: me } });

// A name for this tab, kept over reloads.
function sessionName() {
  try {
    const known = sessionStorage.getItem("who");
    if (known) return known;
    const bird = BIRDS[Math.floor(Math.random() * BIRDS.length)];
    const name = `${bird} ${Math.floor(10 + Math.random() * 90)}`;
    sessionStorage.setItem("who", name);
    return name;
  } catch {
    return BIRDS[0]; // storage may be switched off
  }
}

function element(tag, { className = "", text = "", title = "" } = {}) {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  if (title) node.title = title;
  return node;
}

// ---- connection -----------------------------------------------------------------

const STATUS = {
  connecting: () => "Connecting…",
  open: () => "Connected",
  waiting: () => {
    const seconds = Math.max(0, Math.ceil((agent.retryAt - Date.now()) / 1000));
    return `Connection lost, trying again in ${seconds} s`;
  },
  closed: () => "The server ended this connection",
};

function showStatus() {
  $("status").dataset.status = agent.status;
  const text = STATUS[agent.status]();
  // A live region is read out at each change: write only what is new.
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
  $("retry").hidden = agent.status !== "waiting";
  const usable = agent.status === "open" && agent.state !== undefined;
  for (const control of document.querySelectorAll(".card form button, .steps button, #cheat, #note, [data-end], #colours button")) {
    control.disabled = !usable || control.dataset.busy === "yes";
  }
}

agent.addEventListener("status", async () => {
  showStatus();
  if (agent.status === "open") {
    opened++;
    await loadRows();
  }
  else showPeople([]); // who is there now, we can't know
});
setInterval(() => agent.status === "waiting" && showStatus(), 500);
$("retry").onclick = () => agent.retryNow();

// ---- state ----------------------------------------------------------------------

let shown;

agent.addEventListener("state", ({ detail: state }) => {
  const before = shown;
  shown = state;
  document.documentElement.dataset.colour = state.colour;
  $("count").textContent = state.count.toLocaleString("en");
  if (before && before.count !== state.count) flash($("count"));
  // Not under the visitor's fingers: a note being written wins over one that arrives.
  if (document.activeElement !== $("note")) $("note").value = state.note;
  for (const swatch of $("colours").children) {
    swatch.setAttribute("aria-checked", String(swatch.dataset.colour === state.colour));
  }
  showJson(state, before);
  showStatus();
});

function flash(node) {
  node.classList.remove("flash");
  void node.offsetWidth; // restarts the animation
  node.classList.add("flash");
}

function showJson(state, before) {
  const lines = Object.entries(state).map(([key, value]) => {
    const text = `${JSON.stringify(key)}: ${JSON.stringify(value)}`;
    const changed = before && JSON.stringify(before[key]) !== JSON.stringify(value);
    return element(changed ? "mark" : "span", { text });
  });
  $("state-json").replaceChildren("{ ", ...lines.flatMap((line, i) => (i ? [",\n  ", line] : [line])), " }");
}

async function add(by) {
  $("refused").hidden = true;
  await logged("add", [by]);
}

for (const button of document.querySelectorAll("[data-add]")) {
  button.onclick = () => add(Number(button.dataset.add));
}

for (const colour of COLOURS) {
  const swatch = element("button", { title: colour });
  swatch.type = "button";
  swatch.dataset.colour = colour;
  swatch.setAttribute("role", "radio");
  swatch.setAttribute("aria-label", colour);
  swatch.onclick = () => write({ colour });
  $("colours").append(swatch);
}

function write(change) {
  $("refused").hidden = true;
  agent.setState({ ...agent.state, ...change });
}

let noteTimer;
$("note").oninput = () => {
  clearTimeout(noteTimer);
  noteTimer = setTimeout(writeNote, 500);
};
$("note").onchange = writeNote;

function writeNote() {
  clearTimeout(noteTimer);
  const note = $("note").value;
  if (agent.state && note !== agent.state.note) write({ note });
}

$("cheat").onclick = () => write({ count: 1_000_000 });
agent.addEventListener("refused", ({ detail: error }) => {
  $("refused").textContent = `The room refused: “${error}”. The tally is as it was.`;
  $("refused").hidden = false;
});

// ---- calls ----------------------------------------------------------------------

for (const name of Object.keys(METHODS)) $("method").append(new Option(name, name));
$("method").onchange = () => { $("args").value = METHODS[$("method").value]; };
$("args").value = METHODS.add;

$("call-form").onsubmit = async (event) => {
  event.preventDefault();
  const method = $("method").value.split(",")[0];
  let args;
  try {
    args = JSON.parse($("args").value.trim() || "[]");
    if (!Array.isArray(args)) throw new SyntaxError();
  } catch {
    addLog(`${method}(${$("args").value})`, "arguments are a JSON list, such as [5]", null, true);
    return;
  }
  await logged(method, args);
};

/** Call a method and write it, its answer and its time into the list. */
async function logged(method, args) {
  const text = `${method}(${args.map((arg) => JSON.stringify(arg)).join(", ")})`;
  const started = performance.now();
  try {
    const result = await agent.call(method, args);
    addLog(text, JSON.stringify(result) ?? "no value", performance.now() - started, false);
  } catch (error) {
    addLog(text, error.message, performance.now() - started, true);
  }
}

function addLog(call, result, took, failed) {
  const item = element("li", { className: failed ? "failed" : "" });
  item.append(
    element("span", { text: call }),
    element("span", { className: "took", text: took === null ? "not sent" : `${took.toFixed(1)} ms` }),
    element("span", { className: "result", text: result }),
  );
  $("call-log").querySelector(".empty")?.remove();
  $("call-log").prepend(item);
  while ($("call-log").children.length > 4) $("call-log").lastChild.remove();
}

// ---- a streamed call ------------------------------------------------------------

$("stream-form").onsubmit = async (event) => {
  event.preventDefault();
  const wanted = Number($("how-many").value);
  const button = event.submitter ?? event.target.querySelector("button");
  busy(button, true);
  $("stream-end").hidden = true;
  $("primes").replaceChildren();
  $("stream-progress").max = wanted;
  $("stream-progress").value = 0;
  const started = performance.now();
  let count = 0;
  const onChunk = (prime) => {
    $("primes").append(element("b", { text: String(prime) }));
    $("stream-progress").value = ++count;
  };
  try {
    const end = await agent.call("primes", [wanted], { onChunk });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    endStream(`${count} primes in ${seconds} s, and as the final value their sum: ${end.sum.toLocaleString("en")}`, false);
  } catch (error) {
    endStream(`The stream broke after ${count}: ${error.message}`, true);
  } finally {
    busy(button, false);
  }
};

function endStream(text, failed) {
  $("stream-end").textContent = text;
  $("stream-end").classList.toggle("error", failed);
  $("stream-end").hidden = false;
}

function busy(button, yes) {
  button.dataset.busy = yes ? "yes" : "no";
  showStatus();
}

// ---- the owner ------------------------------------------------------------------

let owner;
let opened = 0; // how many sockets this tab has had

function showOwner(pid) {
  owner = pid;
  $("owner").textContent = `process ${pid}`;
}

for (const button of document.querySelectorAll("[data-end]")) {
  button.onclick = async () => {
    const [before, sockets, started] = [owner, opened, performance.now()];
    for (const each of document.querySelectorAll("[data-end]")) busy(each, true);
    tellEnd(`Process ${before} ends …`, false);
    try {
      await agent.call(button.dataset.end, []);
      // Not while it dies: a call in flight is lost with its owner.
      await new Promise((resolve) => setTimeout(resolve, 700));
      while (owner === before && performance.now() - started < 30_000) showOwner(await agent.call("owner", []));
      const stayed = sockets === opened ? "the socket stayed open" : "the tab has connected again";
      tellEnd(`Process ${before} has ended, process ${owner} goes on; ${stayed}.`, false);
    } catch (error) {
      tellEnd(error.message, true);
    } finally {
      for (const each of document.querySelectorAll("[data-end]")) busy(each, false);
    }
  };
}

function tellEnd(text, failed) {
  $("owner-end").textContent = text;
  $("owner-end").classList.toggle("error", failed);
  $("owner-end").hidden = false;
}

// ---- rows, people ---------------------------------------------------------------

async function loadRows() {
  try {
    const rows = await agent.call("history", [ROWS_SHOWN]);
    $("rows").replaceChildren(...rows.map((row) => rowElement(row)));
    countRows();
  } catch (error) {
    if (agent.status !== "open") return; // it comes again with the next connection
    $("rows-empty").textContent = `The rows can't be read: ${error.message}`;
    $("rows-empty").hidden = false;
  }
}

function rowElement(row, className = "") {
  const line = element("tr", { className });
  line.dataset.id = row.id;
  const at = new Date(row.at);
  line.append(
    element("td", { text: row.id }),
    element("td", { text: at.toLocaleTimeString("en-GB"), title: at.toISOString() }),
    element("td", { text: row.who }),
    element("td", { text: row.what, title: row.what }),
    element("td", { text: row.count, className: "number" }),
  );
  return line;
}

function addRow(row) {
  if ($("rows").querySelector(`[data-id="${Number(row.id)}"]`)) return;
  $("rows").prepend(rowElement(row, "new"));
  while ($("rows").children.length > ROWS_SHOWN) $("rows").lastChild.remove();
  countRows();
}

function countRows() {
  $("rows-empty").textContent = "No rows yet. Press +1.";
  $("rows-empty").hidden = $("rows").children.length > 0;
}

function showPeople(people) {
  let found = false;
  const items = people.map((who) => {
    const mine = who === me && !found;
    found ||= mine;
    return element("li", { text: mine ? `${who} (this tab)` : who, className: mine ? "me" : "" });
  });
  const nobody = element("li", { className: "empty", text: "not connected" });
  $("people").replaceChildren(...(items.length ? items : [nobody]));
}

agent.addEventListener("message", ({ detail: frame }) => {
  if (frame.type === "owner") showOwner(frame.pid);
  else if (frame.type === "row") addRow(frame.row);
  else if (frame.type === "people") showPeople(frame.people);
  else if (frame.type === "rows-cleared") { $("rows").replaceChildren(); countRows(); }
});

// ---- the words around it ---------------------------------------------------------

$("address").textContent = `room/${room}`;
$("second-tab").href = `/?room=${encodeURIComponent(room)}`;
const inUrl = encodeURIComponent(room);
$("curl").textContent = `curl -X POST ${location.origin}/agents/room/${inUrl} \\\n     -d '{"by": 5}'`;
// The name in an address is not decoded, so that is how Postgres knows it, too.
$("psql").textContent =
  `SELECT class, name, state\nFROM   durable.agent_state\nWHERE  name = '${inUrl.replaceAll("'", "''")}';`;

for (const button of document.querySelectorAll("[data-copy]")) {
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText($(button.dataset.copy).textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($(button.dataset.copy)); // no clipboard over plain http
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
}

$("room-form").onsubmit = (event) => {
  event.preventDefault();
  location.search = new URLSearchParams({ room: $("room").value.trim() });
};

/** The source of a method, cut out of the file that is running: it can't be out of date. */
function methodSource(source, name) {
  const lines = source.split("\n");
  const at = lines.findIndex((line) => new RegExp(`^    (async )?def ${name}\\(`).test(line));
  let first = at;
  while (lines[first - 1]?.startsWith("    @")) first--;
  let last = at + 1;
  // A signature over several lines ends with a ")" at the depth of its "def".
  while (last < lines.length && /^(\s*$|     |    \))/.test(lines[last])) last++;
  return lines.slice(first, last).join("\n").trimEnd().replace(/^ {4}/gm, "");
}

async function showSources() {
  const source = await (await fetch("/app.py")).text();
  for (const pre of document.querySelectorAll("[data-code]")) {
    pre.textContent = pre.dataset.code.split(" ").map((name) => methodSource(source, name)).join("\n\n");
  }
}

showStatus();
await showSources();
