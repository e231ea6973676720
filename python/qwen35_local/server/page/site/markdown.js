// A reply's Markdown as elements: headings, lists, tables, quotations, code, paragraphs. Everything else is its own
// text, markup of HTML too; an image is the text of its link, so that nothing is loaded.
import { button, copy, el } from "./dom.js";
import { inline } from "./inline.js";

const MOST_DEPTH = 10;
const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?: +(.*))?$/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const ITEM = /^( {0,20})([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const QUOTE = /^ {0,3}> ?/;

/** Shows a text in `place`. Blocks that are as they were stay, so that a selection in them does too. */
export function show(place, text) {
  const found = blocks(text.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"));
  const before = place.children;
  found.forEach((block, n) => {
    const source = block.type + "\n" + block.source.join("\n");
    if (before[n]?.source === source) return;
    const element = drawn(block, 0);
    element.source = source;
    if (before[n]) before[n].replaceWith(element);
    else place.append(element);
  });
  while (before.length > found.length) place.lastElementChild.remove();
}

/** Of lines, [{type, source: its lines, ...}]. */
export function blocks(lines) {
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at++;
      continue;
    }
    const block = read(lines, at);
    block.source = lines.slice(at, block.end);
    found.push(block);
    at = block.end;
  }
  return found;
}

function read(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readFence(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return { type: "heading", level: heading[1].length, text: trimmedHeading(heading[2] ?? ""), end: at + 1 };
  if (RULE.test(line)) return { type: "rule", end: at + 1 };
  if (QUOTE.test(line)) return readQuote(lines, at);
  if (ITEM.test(line)) return readList(lines, at);
  if (isTable(lines, at)) return readTable(lines, at);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !interrupts(lines, end)) end++;
  return { type: "paragraph", text: lines.slice(at, end).map((part) => part.trim()).join("\n"), end };
}

function trimmedHeading(text) {
  let end = text.trimEnd();
  while (end.endsWith("#")) end = end.slice(0, -1);
  return end === text.trimEnd() || end === "" || end.endsWith(" ") ? end.trim() : text.trim();
}

/** Whether a line ends a paragraph without an empty line before it. */
function interrupts(lines, at) {
  const line = lines[at];
  const item = ITEM.exec(line);
  const begins = item !== null && item[4] !== "" && (!/\d/.test(item[2]) || item[2].length === 2);
  return begins || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || isTable(lines, at);
}

function readFence(lines, at, [, mark, language]) {
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end], mark)) end++;
  const indent = /^ */.exec(lines[at])[0].length;
  const code = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indent, /^ */.exec(line)[0].length)));
  return { type: "code", language: language.trim().split(" ")[0], code: code.join("\n"), end: Math.min(end + 1, lines.length) };
}

function isEnd(line, mark) {
  const text = line.trim();
  return text.length >= mark.length && text[0] === mark[0] && text === mark[0].repeat(text.length);
}

function readQuote(lines, at) {
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || (lines[end].trim() && !interrupts(lines, end)))) end++;
  return { type: "quote", lines: lines.slice(at, end).map((line) => line.replace(QUOTE, "")), end };
}

function readList(lines, at) {
  const first = ITEM.exec(lines[at]);
  const isOrdered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (item === null || /\d/.test(item[2]) !== isOrdered || item[1].length > first[1].length + 3 || RULE.test(lines[end])) break;
    const inner = readItem(lines, end, item);
    items.push(inner.lines);
    end = inner.end;
  }
  return end === at ? { type: "paragraph", text: lines[at], end: at + 1 } : { type: "list", isOrdered, start: parseInt(first[2], 10), items, end };
}

function readItem(lines, at, [, indent, mark, space, text]) {
  const width = indent.length + mark.length + Math.min(space.length || 1, 4);
  const least = Math.min(width, indent.length + 2); // models often indent by two, whatever the mark
  const found = [text];
  let end = at + 1;
  for (; end < lines.length; end++) {
    const line = lines[end];
    const own = /^ */.exec(line)[0].length;
    if (!line.trim()) {
      let next = end + 1;
      while (next < lines.length && !lines[next].trim()) next++;
      if (next === lines.length) break;
      const isInner = /^ */.exec(lines[next])[0].length >= least;
      const isNext = ITEM.test(lines[next]) && !isInner && /^ */.exec(lines[next])[0].length >= indent.length;
      if (!isInner && !isNext) break;
      if (isNext) return { lines: found, end: next };
      for (; end < next; end++) found.push("");
      end--;
    } else if (own >= least) found.push(line.slice(Math.min(own, width)));
    else if (interrupts(lines, end) || ITEM.test(line)) break;
    else found.push(line.trim());
  }
  return { lines: found, end };
}

function isTable(lines, at) {
  if (!lines[at].includes("|") || !lines[at + 1]?.includes("-")) return false;
  const rule = cells(lines[at + 1]);
  return rule.every((cell) => /^:?-+:?$/.test(cell)) && cells(lines[at]).length === rule.length;
}

function readTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim()) end++;
  const aligned = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "left"));
  return { type: "table", aligned, head: cells(lines[at]), rows: lines.slice(at + 2, end).map(cells), end };
}

/** Of a row; a bar behind a backslash or in code is not one. */
function cells(line) {
  const found = [""];
  let isCode = false;
  const text = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\" && text[at + 1] === "|") found[found.length - 1] += text[++at];
    else if (text[at] === "|" && !isCode) found.push("");
    else {
      if (text[at] === "`") isCode = !isCode;
      found[found.length - 1] += text[at];
    }
  }
  return found.map((cell) => cell.trim());
}

function drawn(block, depth) {
  switch (block.type) {
    case "heading":
      return el(`h${Math.min(block.level + 2, 6)}`, { dir: "auto" }, ...inline(block.text));
    case "rule":
      return el("hr");
    case "code":
      return drawnCode(block);
    case "quote":
      return el("blockquote", {}, ...inner(block.lines, depth));
    case "list":
      return drawnList(block, depth);
    case "table":
      return drawnTable(block);
    default:
      return el("p", { dir: "auto" }, ...inline(block.text));
  }
}

function inner(lines, depth) {
  if (depth >= MOST_DEPTH) return [el("p", {}, lines.join("\n"))];
  return blocks(lines).map((block) => drawn(block, depth + 1));
}

function drawnCode({ language, code }) {
  const name = language.slice(0, 40);
  const head = el("div", { class: "code-head" }, el("span", {}, name || "text"), button("Copy", (event) => copy(code, event.target)));
  return el("div", { class: "code" }, head, el("pre", {}, el("code", {}, code)));
}

function drawnList({ isOrdered, start, items }, depth) {
  const list = el(isOrdered ? "ol" : "ul");
  if (isOrdered && start !== 1) list.start = start;
  for (const lines of items) {
    const task = /^\[([ xX])\] /.exec(lines[0]);
    const children = inner(task ? [lines[0].slice(4), ...lines.slice(1)] : lines, depth);
    const box = task ? el("input", { type: "checkbox", checked: task[1] !== " ", disabled: true }) : null;
    list.append(el("li", { class: task ? "task" : "" }, box, ...children));
  }
  return list;
}

function drawnTable({ aligned, head, rows }) {
  const cell = (name) => (text, n) => el(name, { class: `to-${aligned[n]}`, dir: "auto" }, ...inline(text));
  const row = (name) => (texts) => el("tr", {}, ...aligned.map((_, n) => cell(name)(texts[n] ?? "", n)));
  const table = el("table", {}, el("thead", {}, row("th")(head)), el("tbody", {}, ...rows.map(row("td"))));
  return el("div", { class: "table" }, table);
}
