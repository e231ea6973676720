// Conversations in the browser's database; where there is none, in memory until the page is closed.
import { checked } from "./settings.js";
import { ROOT, merge } from "./tree.js";

const NAME = "qwen35";
const ROLES = ["user", "assistant", "tool"];
const MOST_FILE = 64 << 20; // bytes of an import
let database = null;
const memory = new Map();
const channel = new BroadcastChannel(NAME); // other tabs

/** Returns whether what is kept will still be there later. `changed` is told the id of what another tab has changed. */
export async function open(changed) {
  channel.onmessage = (event) => changed(event.data);
  try {
    database = await new Promise((resolve, reject) => {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } catch {
    database = null;
  }
  return database !== null;
}

function within(mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction("conversations", mode);
    const request = work(transaction.objectStore("conversations"));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** All of them, those that changed last first. What was being written when it was kept is not written any more, or is
 * by another tab, which tells of it soon. */
export async function all() {
  const found = database ? await within("readonly", (store) => store.getAll()) : [...memory.values()];
  return found.map((one) => read(one)).filter((one) => one !== null).sort((a, b) => b.changed - a.changed);
}

/** One that another tab has just changed; null when it was removed. */
export async function get(id) {
  return read(database ? await within("readonly", (store) => store.get(id)) : memory.get(id), true);
}

/** Keeps a conversation, and takes into it what other tabs have added meanwhile. */
export async function put(conversation) {
  if (database) await within("readwrite", (store) => putMerged(store, conversation));
  else memory.set(conversation.id, structuredClone(conversation));
  channel.postMessage(conversation.id);
}

function putMerged(store, conversation) {
  const request = store.get(conversation.id);
  request.onsuccess = () => {
    const before = read(request.result, true);
    for (const [id, node] of Object.entries(before?.nodes ?? {})) {
      // Whether it still is being written is known from what its tab has told, not from when it was kept.
      if (node.state === "running") node.state = Object.hasOwn(conversation.nodes, id) ? conversation.nodes[id].state : "stopped";
    }
    if (before) merge(conversation, before);
    store.put(structuredClone(conversation));
  };
  return request;
}

export async function remove(id) {
  if (database) await within("readwrite", (store) => store.delete(id));
  else memory.delete(id);
  channel.postMessage(id);
}

/** The text of a file that holds these. */
export function exported(conversations) {
  return JSON.stringify({ format: "qwen35-conversations", version: 1, conversations }, null, 1);
}

/** The conversations of a file. Throws an Error that says what is wrong with it. */
export async function imported(file) {
  if (file.size > MOST_FILE) throw new Error(`${file.name} is larger than 64 MiB.`);
  let value;
  try {
    value = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not JSON; expected a file that this page exported.`);
  }
  const list = value?.format === "qwen35-conversations" && Array.isArray(value.conversations) ? value.conversations : null;
  const found = list?.map((one) => read(one));
  if (!found || found.includes(null)) throw new Error(`${file.name} does not hold conversations that this page exported.`);
  return found;
}

/** A conversation of which nothing is trusted: fields of the right kinds, and the tree as it hangs together from its
 * root. Null for what is none. `isWritten`: whether what was being written when it was kept still is. */
export function read(value, isWritten = false) {
  if (typeof value?.id !== "string" || typeof value.nodes !== "object" || value.nodes === null) return null;
  const nodes = Object.create(null); // an id may be the name of anything
  const given = new Map(Object.entries(value.nodes));
  const queue = [[ROOT, null]];
  while (queue.length) {
    const [id, parent] = queue.pop();
    const node = readNode(given.get(id), id, parent, isWritten);
    given.delete(id); // each hangs in one place
    if (node === null) return null;
    node.children = node.children.filter((child) => given.has(child));
    if (new Set(node.children).size !== node.children.length) return null;
    node.chosen = Math.min(node.chosen, Math.max(node.children.length - 1, 0));
    nodes[id] = node;
    queue.push(...node.children.map((child) => [child, id]));
  }
  const title = typeof value.title === "string" ? value.title.slice(0, 200) : "";
  const changed = Number.isFinite(value.changed) ? value.changed : Date.now();
  return { id: value.id, title, changed, settings: checked(value.settings), nodes: { ...nodes } };
}

function readNode(value, id, parent, isWritten) {
  if (typeof value !== "object" || value === null || !Array.isArray(value.children)) return null;
  const isRoot = id === ROOT;
  if (isRoot ? value.role !== "root" : !ROLES.includes(value.role) || typeof value.content !== "string") return null;
  const chosen = Number.isInteger(value.chosen) && value.chosen >= 0 ? value.chosen : 0;
  const node = { id, parent, role: value.role, children: value.children.filter((child) => typeof child === "string"), chosen };
  if (isRoot) return node;
  node.content = value.content;
  for (const name of ["reasoning", "callId", "name", "error", "state"]) if (typeof value[name] === "string") node[name] = value[name];
  if (node.state === "running" && !isWritten) node.state = "stopped"; // by the end of the page that it was written on
  if (Number.isFinite(value.thoughtSeconds)) node.thoughtSeconds = value.thoughtSeconds;
  if (Array.isArray(value.calls)) node.calls = value.calls.filter(isCall).map(({ id, name, text }) => ({ id, name, text }));
  if (typeof value.cost === "object" && value.cost !== null) node.cost = readCost(value.cost);
  return node;
}

function isCall(call) {
  return [call?.id, call?.name, call?.text].every((text) => typeof text === "string");
}

function readCost(cost) {
  return Object.fromEntries(Object.entries(cost).filter(([, value]) => Number.isFinite(value) || typeof value === "string"));
}
