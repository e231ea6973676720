// The inside of a paragraph of Markdown as nodes. It goes on from left to right and remembers what has no end, so that
// no text takes more than a time proportional to its length, times the depth.
import { el } from "./dom.js";

const MOST_DEPTH = 8;
const MOST_LABEL = 1000; // characters of a link's text, and of its address
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const ADDRESS = /https?:\/\/[^\s<>"'`|\\^{}]+/y;

/** Nodes of a text. */
export function inline(text, depth = 0) {
  const nodes = [];
  const endless = new Set(); // marks without an end from here on
  let plain = 0; // where the text begins that has not become a node yet
  let at = 0;
  while (at < text.length) {
    const found = special(text, at, depth, endless);
    if (found === null) {
      at++;
      continue;
    }
    if (at > plain) nodes.push(text.slice(plain, at));
    nodes.push(...found.nodes);
    at = plain = found.end;
  }
  if (at > plain) nodes.push(text.slice(plain));
  return nodes;
}

function special(text, at, depth, endless) {
  switch (text[at]) {
    case "\\":
      return /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "") ? { nodes: [text[at + 1]], end: at + 2 } : null;
    case "`":
      return code(text, at, endless);
    case "[":
      return depth < MOST_DEPTH ? link(text, at, endless) : null;
    case "h":
      return depth >= MOST_DEPTH || /\w/.test(text[at - 1] ?? "") ? null : address(text, at);
    case "*":
    case "_":
    case "~":
      return depth < MOST_DEPTH ? emphasis(text, at, depth, endless) : null;
    default:
      return null;
  }
}

function code(text, at, endless) {
  let start = at;
  while (text[start] === "`") start++;
  const mark = text.slice(at, start);
  const whole = { nodes: [mark], end: start }; // the run itself, when nothing ends it
  if (endless.has(mark)) return whole;
  for (let end = text.indexOf(mark, start); end >= 0; ) {
    let after = end;
    while (text[after] === "`") after++;
    if (after - end === mark.length) {
      const inner = text.slice(start, end);
      const isPadded = /^ .*\S.* $/s.test(inner);
      return { nodes: [el("code", {}, isPadded ? inner.slice(1, -1) : inner)], end: after };
    }
    end = text.indexOf(mark, after);
  }
  endless.add(mark);
  return whole;
}

function emphasis(text, at, depth, endless) {
  for (const [mark, name] of MARKS) {
    if (!text.startsWith(mark, at) || endless.has(mark)) continue;
    const start = at + mark.length;
    if (!/\S/.test(text[start] ?? "")) continue;
    const isBoth = mark.length === 2 && text[start] === mark[0] && text[start + 1] !== mark[0]; // ***strong and em***
    if (text[start] === mark[0] && !isBoth) continue;
    if (mark[0] === "_" && /\w/.test(text[at - 1] ?? "")) continue;
    const end = closing(text, start + 1, mark);
    if (end < 0) endless.add(mark);
    else return { nodes: [el(name, {}, ...inline(text.slice(start, end), depth + 1))], end: end + mark.length };
  }
  return null;
}

function closing(text, from, mark) {
  for (let end = text.indexOf(mark, from); end >= 0; end = text.indexOf(mark, end + 1)) {
    let after = end + mark.length;
    const isRun = text[after] === mark[0];
    while (text[after] === mark[0]) after++;
    if (mark.length === 1 && isRun) {
      end = after - 1; // of a stronger mark
      continue;
    }
    if (!/\S/.test(text[end - 1]) || text[end - 1] === "\\") continue;
    if (mark[0] === "_" && /\w/.test(text[after] ?? "")) continue;
    return after - mark.length;
  }
  return -1;
}

function link(text, at, endless) {
  if (endless.has("](")) return null;
  if (text.indexOf("](", at) < 0) endless.add("](");
  const near = text.slice(at, at + 2 * MOST_LABEL);
  const middle = near.indexOf("](");
  if (middle < 0 || middle > MOST_LABEL) return null;
  let open = 1;
  let end = middle + 2;
  for (; end < near.length && open > 0 && !/\s/.test(near[end]); end++) {
    if (near[end] === "(") open++;
    if (near[end] === ")") open--;
  }
  if (open > 0) return null;
  const to = safeAddress(near.slice(middle + 2, end - 1));
  return to === null ? null : { nodes: [anchor(to, inline(near.slice(1, middle), MOST_DEPTH))], end: at + end };
}

function address(text, at) {
  ADDRESS.lastIndex = at;
  const found = ADDRESS.exec(text)?.[0].slice(0, 2 * MOST_LABEL).replace(/[.,;:!?)\]*_~]{1,9}$/, "");
  const to = found === undefined ? null : safeAddress(found);
  return to === null ? null : { nodes: [anchor(to, [found])], end: at + found.length };
}

/** An address that a link may have: of the web, and without a name and password that could pass for another one. */
export function safeAddress(text) {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return null;
  const url = new URL(text);
  return /^https?:$/.test(url.protocol) && !url.username && !url.password ? url.href : null;
}

function anchor(to, children) {
  return el("a", { href: to, target: "_blank", rel: "noopener noreferrer nofollow", title: to }, ...children);
}
