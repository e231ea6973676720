// The page: the conversation that is shown, the replies that are being written, and what the person does.
import { by } from "./dom.js";
import { ChatView } from "./chat_view.js";
import { exportAll, importFiles } from "./files.js";
import { ListView } from "./list_view.js";
import { Run } from "./run.js";
import { StatusView } from "./status_view.js";
import { ask, defaults, requestFields } from "./settings.js";
import { ROOT, add, begin, merge, messages, path, titleOf, turn } from "./tree.js";
import * as store from "./store.js";

const SAVE_EVERY = 2000; // milliseconds, while a reply is written

const runs = new Map(); // by the id of the conversation
const removed = new Set(); // ids of conversations whose last reply may still be ending
let conversations = [];
let current = begin(defaults());

const acts = { edit, retry, turn: turnTo, results };
const chat = new ChatView(acts, (node) => [...runs.values()].find((run) => run.node === node) ?? null);
const list = new ListView({ open, rename, remove });
const server = new StatusView();

function notice(text) {
  by("notice").textContent = text;
  by("notice").hidden = !text;
}

/** Draws everything but what a running reply changes. */
function draw() {
  chat.show(current);
  list.show(conversations, current.id);
  by("title").textContent = titleOf(current);
  document.title = `${titleOf(current)} · qwen35`;
  by("thinking").value = current.settings.thinking;
  by("budget").hidden = current.settings.thinking !== "budget";
  by("budget").value = current.settings.budget;
  drawButtons();
}

function drawButtons() {
  const held = document.activeElement;
  const run = runs.get(current.id);
  by("send").hidden = run !== undefined;
  by("stop").hidden = run === undefined;
  by("answer-now").hidden = !run?.isThinking;
  if (held?.hidden && held.closest("#composer")) by(run ? "stop" : "send").focus(); // what is hidden loses the focus
}

async function keep(conversation) {
  if (removed.has(conversation.id)) return;
  conversation.changed = Date.now();
  conversations = [conversation, ...conversations.filter((one) => one !== conversation && one.id !== conversation.id)];
  try {
    await store.put(conversation);
  } catch (error) {
    notice(`This conversation could not be kept (${error?.message ?? "no room"}); export it, or delete others.`);
  }
}

function write(conversation, last) {
  const node = add(conversation, last.id, { role: "assistant" });
  let saved = performance.now();
  const isShown = () => conversation === current;
  const changed = () => {
    if (isShown()) {
      chat.refresh(node);
      drawButtons();
    }
    if (performance.now() - saved > SAVE_EVERY) {
      saved = performance.now();
      keep(conversation);
    }
  };
  const ended = () => {
    runs.delete(conversation.id);
    keep(conversation);
    if (isShown()) draw();
    server.refresh();
  };
  const run = new Run(node, changed, ended);
  runs.set(conversation.id, run);
  const fields = { ...requestFields(conversation.settings), messages: messages(conversation, last) };
  run.write(fields);
  keep(conversation);
  chat.toEnd();
  draw();
  return node;
}

function send() {
  const text = by("input").value;
  if (!text.trim() || runs.has(current.id)) return;
  by("input").value = "";
  fitInput();
  notice("");
  const last = path(current).at(-1);
  write(current, add(current, last?.id ?? ROOT, { role: "user", content: text }));
}

function edit(node, text) {
  if (runs.has(current.id)) return;
  const { role, name, callId } = node;
  const sibling = add(current, node.parent, { role, content: text, ...(role === "tool" && { name, callId }) });
  if (role === "assistant") {
    Object.assign(sibling, node.calls && { calls: structuredClone(node.calls) });
    keep(current);
    draw();
    chat.focus(sibling);
  } else chat.focus(write(current, sibling));
}

function retry(node) {
  if (!runs.has(current.id)) chat.focus(write(current, current.nodes[node.parent]));
}

function turnTo(node, step) {
  const to = runs.has(current.id) ? null : turn(current, node, step);
  if (to === null) return;
  keep(current);
  draw();
  chat.focus(to);
}

function results(node, calls, texts) {
  if (runs.has(current.id)) return;
  let last = path(current).at(-1);
  calls.forEach((call, n) => (last = add(current, last.id, { role: "tool", name: call.name, callId: call.id, content: texts[n] })));
  chat.focus(write(current, last));
}

function open(id) {
  current = conversations.find((one) => one.id === id) ?? current;
  list.close();
  notice("");
  draw();
  chat.toEnd();
  by("input").focus();
}

function startNew() {
  current = begin(defaults());
  list.close();
  notice("");
  draw();
  by("input").focus();
}

function rename(id, title) {
  const conversation = conversations.find((one) => one.id === id);
  if (!conversation) return;
  conversation.title = title;
  keep(conversation);
  draw();
}

async function remove(id) {
  forget(id);
  try {
    await store.remove(id);
  } catch (error) {
    notice(`This conversation could not be removed (${error?.message ?? "no room"}); it is there again when the page is opened.`);
  }
}

/** Takes a conversation off this page, with what is being written of it. */
function forget(id) {
  removed.add(id);
  runs.get(id)?.stop();
  conversations = conversations.filter((one) => one.id !== id);
  if (current.id === id) startNew();
  else draw();
}

/** Another tab changed or removed a conversation. */
async function changedElsewhere(id) {
  const found = await store.get(id);
  const known = conversations.find((one) => one.id === id);
  if (!found) {
    if (!known) return;
    const wasShown = known === current;
    forget(id);
    if (wasShown) notice("This conversation was deleted in another tab.");
    return;
  }
  if (known) {
    merge(known, found);
    Object.assign(known, { title: found.title, settings: found.settings, changed: found.changed });
  }
  removed.delete(id);
  conversations = [known ?? found, ...conversations.filter((one) => one !== known)];
  draw();
}

function fitInput() {
  const input = by("input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}

function setThinking() {
  current.settings.thinking = by("thinking").value;
  if (by("budget").checkValidity() && by("budget").value) current.settings.budget = by("budget").valueAsNumber;
  by("budget").hidden = current.settings.thinking !== "budget";
  if (conversations.includes(current)) keep(current);
}

function openSettings() {
  const thinks = current.settings.thinking === "default" ? server.state?.thinks_by_default : current.settings.thinking !== "off";
  ask(current.settings, server.state?.sampling[thinks ? "thinking" : "instruct"], (settings) => {
    current.settings = settings;
    if (conversations.includes(current)) keep(current);
  });
}

function nextTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const shown = document.documentElement.dataset.theme ?? (isDark ? "dark" : "light");
  const theme = shown === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("qwen35-theme", theme);
  } catch {
    // It then lasts as long as the page.
  }
}

function onKey(event) {
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && event.key.toLowerCase() === "k") list.find();
  else if (isCommand && event.shiftKey && event.key.toLowerCase() === "o") startNew();
  else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (document.body.classList.contains("list-open")) list.close();
    else runs.get(current.id)?.stop();
  } else return;
  event.preventDefault();
}

function onInputKey(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send();
  else if (event.key === "ArrowUp" && !by("input").value && path(current).length) chat.focus(path(current).at(-1));
  else return;
  event.preventDefault();
}

function listen() {
  by("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  by("input").addEventListener("input", fitInput);
  by("input").addEventListener("keydown", onInputKey);
  by("stop").addEventListener("click", () => runs.get(current.id)?.stop());
  by("answer-now").addEventListener("click", () => runs.get(current.id)?.answerNow());
  by("new").addEventListener("click", startNew);
  by("thinking").addEventListener("change", setThinking);
  by("budget").addEventListener("change", setThinking);
  by("open-settings").addEventListener("click", openSettings);
  by("theme").addEventListener("click", nextTheme);
  by("export").addEventListener("click", () => exportAll(conversations));
  by("import").addEventListener("click", () => by("import-file").click());
  by("import-file").addEventListener("change", () => importFiles(by("import-file"), keep).then(notice).then(draw));
  document.addEventListener("keydown", onKey);
  window.addEventListener("pagehide", () => runs.forEach((run) => run.stop()));
  setInterval(() => runs.has(current.id) && chat.refresh(runs.get(current.id).node), 500); // the clock of the thinking
}

async function start() {
  listen();
  draw();
  by("input").focus();
  const lasts = await store.open(changedElsewhere);
  conversations = await store.all();
  if (!lasts) notice("This browser keeps nothing for this page: conversations are gone when it is closed.");
  draw();
  await server.refresh();
}

start();
