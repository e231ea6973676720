// A conversation: messages as a tree under an empty root. A message that is edited or a reply that is retried gets a
// sibling; `chosen` of each node is the place among its children of the one that is shown.

export const ROOT = "root";
const own = new WeakSet(); // messages that were added on this page, which alone changes them

/** Unique in practice. `crypto.randomUUID` is missing on pages that did not come from this machine or over TLS. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An empty conversation. */
export function begin(settings) {
  const root = { id: ROOT, parent: null, role: "root", children: [], chosen: 0 };
  return { id: newId(), title: "", changed: Date.now(), settings: structuredClone(settings), nodes: { [ROOT]: root } };
}

/** Adds a message below another one, and shows it. */
export function add(conversation, parentId, fields) {
  const parent = conversation.nodes[parentId];
  const node = { id: newId(), parent: parentId, children: [], chosen: 0, content: "", ...fields };
  conversation.nodes[node.id] = node;
  own.add(node);
  parent.children.push(node.id);
  parent.chosen = parent.children.length - 1;
  return node;
}

/** Takes into a conversation what another page has added to it. Nothing is lost: messages are only ever added, and
 * each is changed by the page that added it alone. */
export function merge(into, from) {
  for (const [id, theirs] of Object.entries(from.nodes)) {
    const mine = Object.hasOwn(into.nodes, id) ? into.nodes[id] : null; // an id may be the name of anything
    if (mine === null) into.nodes = { ...into.nodes, [id]: theirs };
    else {
      const { children, chosen } = mine;
      if (!own.has(mine)) Object.assign(mine, theirs);
      Object.assign(mine, { children: [...new Set([...children, ...theirs.children])], chosen });
    }
  }
}

/** The messages that are shown, oldest first. */
export function path(conversation) {
  const found = [];
  for (let node = conversation.nodes[ROOT]; node.children.length; ) {
    node = conversation.nodes[node.children[node.chosen]];
    found.push(node);
  }
  return found;
}

/** The messages down to this one, oldest first. */
export function upTo(conversation, node) {
  const found = [];
  for (; node.id !== ROOT; node = conversation.nodes[node.parent]) found.unshift(node);
  return found;
}

/** Where a message is among its siblings: [place, count]. */
export function place(conversation, node) {
  const siblings = conversation.nodes[node.parent].children;
  return [siblings.indexOf(node.id), siblings.length];
}

/** Shows the sibling so many places on. Returns it, or null where there is none. */
export function turn(conversation, node, step) {
  const parent = conversation.nodes[node.parent];
  const to = parent.children.indexOf(node.id) + step;
  if (to < 0 || to >= parent.children.length) return null;
  parent.chosen = to;
  return conversation.nodes[parent.children[to]];
}

/** The calls of a reply that have no result below it yet. */
export function openCalls(conversation, node) {
  const answered = new Set();
  for (const later of path(conversation)) if (later.role === "tool") answered.add(later.callId);
  return (node.calls ?? []).filter((call) => !answered.has(call.id));
}

/** What is sent to the server. */
export function messages(conversation, last) {
  const system = conversation.settings.system.trim() ? [{ role: "system", content: conversation.settings.system }] : [];
  return [...system, ...upTo(conversation, last).map(message)];
}

function message({ role, content, reasoning, calls, callId }) {
  const sent = { role, content };
  if (role === "tool") sent.tool_call_id = callId;
  if (reasoning) sent.reasoning_content = reasoning;
  if (calls?.length) {
    sent.tool_calls = calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.text } }));
  }
  return sent;
}

/** What a list shows as its name. */
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = path(conversation).find((node) => node.role === "user");
  return first?.content.trim().split("\n")[0].slice(0, 80) || "New conversation";
}
