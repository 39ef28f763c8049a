// @cloudflare/ai-chat/react: useAgentChat mounted by React, against our chat agents.
import { assert, check, rejection, runAll } from "./harness.mjs";
import { chatting, mountChat, shortly, stored } from "./chat_dom.mjs";

check("a message is answered, word by word", ["c.turn", "c.body"], async (defer) => {
  const tab = await chatting(defer, "ChatAgent", {}, { body: { model: "m" } });
  tab.say("slow one two three");
  await tab.shows(["user: slow one two three", "assistant: one"], "streaming");
  await tab.agent.call("release", ["1"]);
  await tab.shows(["user: slow one two three", "assistant: one two"], "streaming");
  await tab.agent.call("release", ["2"]);
  await tab.shows(["user: slow one two three", "assistant: one two three"]);
  assert.deepEqual((await stored(tab)).map(({ id }) => id), tab.chat.messages.map(({ id }) => id));
  assert.deepEqual((await tab.agent.call("read_journal"))[1], ["asked", { model: "m" }, false]);
  const end = await tab.ends.first(() => true, "the end");
  assert.deepEqual([end.outcome, end.messageIds], ["completed", [tab.chat.messages[0].id]]);
});

check("all kinds of parts are stored as they are rendered", ["c.parts"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("all");
  await tab.until(({ status, messages }) => status === "ready" && messages[1]?.endsWith("done"), "the answer");
  const plain = JSON.parse(JSON.stringify(tab.chat.messages));
  const [question, answer] = await stored(tab);
  // Newer versions of `ai` keep the id of a reasoning part, this one doesn't.
  delete answer.parts.find(({ type }) => type === "reasoning").id;
  assert.deepEqual([question, answer], plain);
  assert.equal(plain[1].parts.length, 8);
  assert.deepEqual(plain[1].metadata, { model: "none" });
});

check("another client sees question, stream and answer", ["c.others"], async (defer) => {
  const author = await chatting(defer);
  const other = await chatting(defer, "ChatAgent", { join: author });
  author.say("slow a b");
  await other.until(({ messages }) => messages.join() === "user: slow a b,assistant: a", "the first word");
  await author.agent.call("release", ["1"]);
  await Promise.all([author, other].map((tab) => tab.shows(["user: slow a b", "assistant: a b"])));
  assert.deepEqual(other.chat.messages.map(({ id }) => id), author.chat.messages.map(({ id }) => id));
  const transcripts = ({ frames }) => frames.items.filter(({ type }) => type === "cf_agent_chat_messages").length;
  assert.equal(transcripts(author), 0);
  assert.ok(transcripts(other) >= 2);
});

check("the history is rendered first", ["c.get-messages", "c.stored-before-done"], async (defer) => {
  const author = await chatting(defer);
  assert.deepEqual(await stored(author), []);
  author.say("say hello");
  await author.ends.first(() => true, "the end");
  assert.deepEqual((await stored(author)).map(shortly), ["user: say hello", "assistant: hello"]);
  author.unmount();
  const later = mountChat(defer, "ChatAgent", { name: author.name });
  const first = await later.until(() => true, "the first rendering");
  assert.deepEqual(first.messages, ["user: say hello", "assistant: hello"]);
});

check("a turn goes on when its author leaves", ["c.author-leaves"], async (defer) => {
  const other = await chatting(defer);
  const author = await chatting(defer, "ChatAgent", { join: other });
  author.say("wait all of it");
  await other.until(({ messages }) => messages.length === 1, "the question");
  author.unmount();
  await other.agent.call("release", ["0"]);
  await other.shows(["user: wait all of it", "assistant: all of it"]);
});

check("stop ends the turn and keeps what was said", ["c.cancel"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("slow one two");
  await tab.shows(["user: slow one two", "assistant: one"], "streaming");
  await tab.chat.stop();
  const end = await tab.ends.first(() => true, "the end");
  assert.equal(end.outcome, "aborted");
  assert.deepEqual((await stored(tab)).map(shortly), ["user: slow one two", "assistant: one"]);
  assert.deepEqual((await tab.agent.call("read_journal")).at(-1), ["ended", "aborted", null]);
});

check("clearing stops, forgets and tells the others", ["c.clear"], async (defer) => {
  const tab = await chatting(defer);
  const other = await chatting(defer, "ChatAgent", { join: tab });
  tab.say("slow one two");
  await Promise.all([tab, other].map((each) => each.until(({ messages }) => messages[1] === "assistant: one", "the stream")));
  tab.chat.clearHistory();
  await Promise.all([tab, other].map((each) => each.until(({ messages }) => messages.length === 0, "an empty chat")));
  assert.deepEqual(await stored(tab), []);
  tab.say("say again");
  await tab.shows(["user: say again", "assistant: again"]);
});

check("regenerate replaces the answer", ["c.regenerate"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("say hello");
  await tab.shows(["user: say hello", "assistant: hello"]);
  const [, before] = await stored(tab);
  tab.chat.regenerate();
  await tab.ends.until(({ length }) => length === 2, "another end");
  const after = await stored(tab);
  assert.deepEqual(after.map(shortly), ["user: say hello", "assistant: hello"]);
  assert.notEqual(after[1].id, before.id);
});

check("setMessages is stored and relayed, and fewer delete nothing", ["c.set-messages"], async (defer) => {
  const tab = await chatting(defer);
  const other = await chatting(defer, "ChatAgent", { join: tab });
  const message = (id) => ({ id, role: "user", parts: [{ type: "text", text: id }] });
  tab.chat.setMessages([message("a"), message("b")]);
  await other.shows(["user: a", "user: b"]);
  tab.chat.setMessages([message("a")]);
  await tab.agent.call("read_journal");
  assert.deepEqual((await stored(tab)).map(shortly), ["user: a", "user: b"]);
});

async function twoAtOnce(defer, agentClass) {
  const tab = await chatting(defer, agentClass);
  const other = await chatting(defer, agentClass, { join: tab });
  tab.say("wait first");
  await other.until(({ messages }) => messages.length === 1, "the question");
  other.say("say second");
  return [tab, other];
}

check("a message waits for the one before", ["c.queue"], async (defer) => {
  const [tab, other] = await twoAtOnce(defer, "ChatAgent");
  await tab.until(({ messages }) => messages.length === 2, "both questions");
  await tab.agent.call("release", ["0"]);
  await other.until(({ status, messages }) => status === "ready" && messages.at(-1) === "assistant: second", "the second answer");
  assert.equal((await stored(tab)).length, 4);
});

check("latest skips those that wait", ["c.latest"], async (defer) => {
  const [tab, other] = await twoAtOnce(defer, "LatestChatAgent");
  await tab.until(({ messages }) => messages.length === 2, "both questions");
  const third = await chatting(defer, "LatestChatAgent", { join: tab });
  third.say("say third");
  const end = await other.ends.first(() => true, "the end of the second");
  assert.equal(end.outcome, "skipped");
  await tab.agent.call("release", ["0"]);
  await third.until(({ messages }) => messages.at(-1) === "assistant: third", "the third answer");
  assert.equal((await stored(tab)).filter(({ role }) => role === "assistant").length, 2);
});

check("drop makes the author forget the message", ["c.drop"], async (defer) => {
  const [tab, other] = await twoAtOnce(defer, "DropChatAgent");
  const end = await other.ends.first(() => true, "the end");
  assert.equal(end.outcome, "skipped");
  await other.shows(["user: wait first"]);
  await tab.agent.call("release", ["0"]);
  await tab.shows(["user: wait first", "assistant: first"]);
});

check("tabs that come in mid-stream render all of it", ["c.resume", "c.resume-many"], async (defer) => {
  const author = await chatting(defer);
  author.say("slow one two three four");
  await author.until(({ messages }) => messages[1] === "assistant: one", "one word");
  const tabs = [];
  for (const number of [1, 2, 3]) {
    const tab = await chatting(defer, "ChatAgent", { join: author });
    tabs.push(tab);
    const words = ["one", "two", "three"].slice(0, number).join(" ");
    await tab.until(({ messages }) => messages[1] === `assistant: ${words}`, words);
    await author.agent.call("release", [`${number}`]);
  }
  const all = ["user: slow one two three four", "assistant: one two three four"];
  await Promise.all([author, ...tabs].map((tab) => tab.until(({ messages }) => messages.join() === all.join(), "all words")));
  assert.deepEqual((await stored(author)).map(shortly), all);
});

check("a socket that is lost in mid-stream misses nothing", ["c.resume"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("slow one two three");
  await tab.shows(["user: slow one two three", "assistant: one"], "streaming");
  tab.agent.reconnect();
  await tab.agent.call("release", ["1"]);
  await tab.until(({ messages }) => messages[1] === "assistant: one two", "the second word");
  await tab.agent.call("release", ["2"]);
  await tab.shows(["user: slow one two three", "assistant: one two three"]);
});

check("a handler that raises is heard of", ["c.raises"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("fail no model");
  const { error } = await tab.until(({ status }) => status === "error", "the error");
  assert.equal(error, "no model");
  tab.say("say fine");
  await tab.until(({ status, messages }) => status === "ready" && messages.at(-1) === "assistant: fine", "the next answer");
});

check("an error chunk keeps what was said", ["c.error"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("error overloaded");
  const { error } = await tab.until(({ status }) => status === "error", "the error");
  assert.equal(error, "overloaded");
  const end = await tab.ends.first(() => true, "the end");
  assert.deepEqual([end.outcome, end.error], ["error", "overloaded"]);
  assert.deepEqual((await stored(tab)).map(shortly), ["user: error overloaded", "assistant: half"]);
});

check("plain text is an answer", ["c.plain"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("plain just text");
  await tab.shows(["user: plain just text", "assistant: just text"]);
  assert.deepEqual((await stored(tab)).map(shortly), ["user: plain just text", "assistant: just text"]);
});

const answering = (outputs) => ({
  onToolCall: ({ toolCall, addToolOutput }) => {
    addToolOutput({ toolCallId: toolCall.toolCallId, tool: toolCall.toolName, output: outputs(toolCall.input) });
  },
});

check("a tool of the client", ["c.tool-result", "c.tool-batch"], async (defer) => {
  const tab = await chatting(defer, "ChatAgent", {}, answering(({ of }) => `${of} is here`));
  const other = await chatting(defer, "ChatAgent", { join: tab });
  tab.say("tool rome oslo");
  const answer = 'assistant: [rome output-available] [oslo output-available] rome: "rome is here". oslo: "oslo is here".';
  const all = ["user: tool rome oslo", answer];
  await Promise.all([tab, other].map((each) => each.until(({ messages }) => messages.join().replaceAll(".  ", ". ") === all.join(), "the answer")));
  const messages = await stored(tab);
  assert.equal(messages.length, 2);
  const asked = (await tab.agent.call("read_journal")).filter(([kind]) => kind === "asked");
  assert.deepEqual(asked.map(([, , continuation]) => continuation), [false, true]);
});

check("the first result of a tool wins", ["c.tool-first"], async (defer) => {
  const tab = await chatting(defer);
  const other = await chatting(defer, "ChatAgent", { join: tab });
  tab.say("tool rome");
  await other.until(({ messages }) => messages[1]?.includes("input-available"), "the call");
  await tab.until(({ status }) => status === "ready", "the end of the turn");
  tab.chat.addToolOutput({ toolCallId: "rome", tool: "where", output: "first" });
  await other.until(({ messages }) => messages[1]?.includes("output-available"), "the result");
  other.chat.addToolOutput({ toolCallId: "rome", tool: "where", output: "second" });
  await tab.until(({ messages }) => messages[1]?.includes('rome: "first"'), "the answer");
  await other.agent.call("read_journal");
  const [, { parts }] = await stored(tab);
  assert.equal(parts.find(({ type }) => type === "tool-where").output, "first");
});

async function decided(defer, approved, state, said) {
  const tab = await chatting(defer);
  tab.say("buy a boat");
  await tab.until(({ status, messages }) => status === "ready" && messages[1] === "assistant: [buy approval-requested]", "the question");
  tab.chat.addToolApprovalResponse({ id: "approval", approved });
  await tab.until(({ messages }) => messages[1] === `assistant: [buy ${state}] ${said}`, said);
  assert.deepEqual((await stored(tab)).map(shortly), ["user: buy a boat", `assistant: [buy ${state}] ${said}`]);
}

check("an approval lets the tool run", ["c.approval"], async (defer) => decided(defer, true, "output-available", "Bought."));

check("a refusal is told", ["c.approval"], async (defer) => decided(defer, false, "output-denied", "Not bought."));

check("a turn whose owner is lost ends with what was said", ["c.crash"], async (defer) => {
  const tab = await chatting(defer);
  tab.say("slow one two");
  await tab.shows(["user: slow one two", "assistant: one"], "streaming");
  await rejection(tab.agent.call("forget_owner"));
  await tab.until(({ status, messages }) => status === "ready" && messages[1] === "assistant: one", "the end");
  assert.deepEqual((await stored(tab)).map(shortly), ["user: slow one two", "assistant: one"]);
  tab.say("say more");
  await tab.until(({ status, messages }) => status === "ready" && messages.at(-1) === "assistant: more", "the next answer");
});

check("with recovery the turn is run again", ["c.recover"], async (defer) => {
  const tab = await chatting(defer, "AgainChatAgent");
  tab.say("slow one two");
  await tab.shows(["user: slow one two", "assistant: one"], "streaming");
  await rejection(tab.agent.call("forget_owner"));
  await tab.agent.call("release", ["1"]);
  await tab.until(({ messages }) => messages.join() === "user: slow one two,assistant: one two", "the whole answer");
  assert.deepEqual((await stored(tab)).map(shortly), ["user: slow one two", "assistant: one two"]);
});

await runAll();
