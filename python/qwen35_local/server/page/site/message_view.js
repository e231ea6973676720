// One message: who, its thinking, text and calls, and what can be done with it.
import { button, copy, el, seconds } from "./dom.js";
import { costOf } from "./cost.js";
import { show } from "./markdown.js";

const WHO = { user: "You", assistant: "Model", tool: "Result" };
const TAIL = 90; // characters of the thinking that its folded line shows

/** `acts`: what the page does on `edit(node, text)`, `retry(node)`, `turn(node, step)`, `results(node, texts)`. */
export class MessageView {
  constructor(node, acts) {
    this.node = node;
    this._acts = acts;
    this._thought = el("div", { class: "thought" });
    this._thoughtLine = el("span");
    this._thinking = el("details", { class: "thinking", hidden: true }, el("summary", {}, this._thoughtLine), this._thought);
    this._thinking.addEventListener("toggle", () => this._showThought());
    this._text = el("div", { class: node.role === "assistant" ? "text markdown" : "text plain", dir: "auto" });
    this._calls = el("div", { class: "calls" });
    this._error = el("p", { class: "error", role: "alert", hidden: true });
    this._foot = el("footer");
    this.element = el(
      "article",
      { class: node.role, tabIndex: 0, "data-id": node.id, "aria-label": WHO[node.role] },
      el("h2", { class: "who" }, node.role === "tool" ? `${WHO.tool} of ${node.name || "a tool"}` : WHO[node.role]),
      this._thinking, this._text, this._calls, this._error, this._foot,
    );
  }

  /** Shows the message as it now is. `run`: that writes it, if any; `place`: among its siblings; `open`: calls without a
   * result. */
  update(run, place, open) {
    const node = this.node;
    this.element.classList.toggle("running", run !== null);
    this._updateThinking(run);
    if (node.role === "assistant") show(this._text, node.content);
    else if (this._text.textContent !== node.content) this._text.textContent = node.content;
    if (run && !node.content && !node.reasoning && !node.calls) this._text.replaceChildren(el("p", { class: "waiting" }, waiting(run)));
    this._updateCalls(run, open);
    this._error.hidden = !node.error;
    this._error.textContent = node.error ?? "";
    this._updateFoot(run, place);
  }

  _updateThinking(run) {
    const node = this.node;
    this._thinking.hidden = !node.reasoning?.trim();
    if (this._thinking.hidden) return;
    const isLive = run !== null && run.isThinking;
    this._thinking.classList.toggle("live", isLive);
    const took = isLive ? (performance.now() - run.thoughtFrom) / 1000 : node.thoughtSeconds;
    const time = took === undefined || took < 0.05 ? "" : ` ${isLive ? "" : "for "}${seconds(took)}`;
    const tail = isLive ? ` · …${node.reasoning.slice(-TAIL).replace(/\s+/g, " ")}` : "";
    this._thoughtLine.textContent = `${isLive ? "Thinking" : "Thought"}${time}${tail}`;
    this._showThought();
  }

  /** Text that nobody sees is not laid out. */
  _showThought() {
    if (this._thinking.open && this._thought.textContent !== this.node.reasoning) this._thought.textContent = this.node.reasoning;
  }

  _updateCalls(run, open) {
    const calls = this.node.calls ?? [];
    const state = JSON.stringify([calls, run !== null, open.map((call) => call.id)]);
    if (this._callState === state) return;
    this._callState = state;
    this._calls.replaceChildren(...calls.map(drawnCall));
    if (run === null && open.length) this._calls.append(this._resultForm(open));
  }

  _resultForm(open) {
    const fields = open.map((call) => el("textarea", { rows: 2, required: true, placeholder: `What ${call.name} gives`, "aria-label": `Result of ${call.name}` }));
    const send = (event) => {
      event.preventDefault();
      this._acts.results(this.node, open, fields.map((field) => field.value));
    };
    return el("form", { class: "results", on: { submit: send } }, ...fields, el("button", { type: "submit", class: "main" }, "Send result"));
  }

  _updateFoot(run, [place, count]) {
    const node = this.node;
    const { line, why } = costOf(node);
    const state = JSON.stringify([run !== null, place, count, line]);
    if (this._footState === state) return;
    this._footState = state;
    this._foot.replaceChildren();
    if (count > 1) this._foot.append(this._branches(place, count, run !== null));
    if (run !== null) return;
    if (node.content || node.role !== "assistant") {
      this._foot.append(button("Copy", (event) => copy(node.content, event.target)), button("Edit", () => this.edit()));
    }
    if (node.role === "assistant") this._foot.append(button("Retry", () => this._acts.retry(node)));
    if (why.length) this._foot.append(el("details", { class: "why" }, el("summary", {}, line), facts(why)));
    else if (line) this._foot.append(el("span", { class: "why" }, line));
  }

  _branches(place, count, isRunning) {
    const step = (label, by, n) =>
      button(label, () => this._acts.turn(this.node, n), { "aria-label": by, disabled: isRunning || place + n < 0 || place + n >= count });
    return el("span", { class: "branches" }, step("‹", "Branch before", -1), `${place + 1}/${count}`, step("›", "Next branch", 1));
  }

  /** Puts an editor in the place of the text. */
  edit() {
    if (this.element.querySelector("form.edit")) return;
    const isReply = this.node.role === "assistant";
    const field = el("textarea", { value: this.node.content, rows: Math.min(20, this.node.content.split("\n").length + 1), "aria-label": "Text of the message" });
    const close = () => {
      form.remove();
      this._text.hidden = this._foot.hidden = false;
      this.element.focus();
    };
    const save = (event) => {
      event.preventDefault();
      close();
      if (field.value !== this.node.content || !isReply) this._acts.edit(this.node, field.value);
    };
    const keys = (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey && !isReply && !event.isComposing) save(event);
      else return;
      event.stopPropagation();
      event.preventDefault();
    };
    const row = el("div", { class: "row" }, el("span", { class: "space" }), button("Cancel", close), el("button", { type: "submit", class: "main" }, isReply ? "Keep" : "Send"));
    const form = el("form", { class: "edit", on: { submit: save, keydown: keys } }, field, row);
    this._text.hidden = this._foot.hidden = true;
    this._text.after(form);
    field.focus();
  }
}

function waiting({ progress }) {
  if (!progress?.total) return "Waiting…";
  return `Reading the prompt: ${progress.processed.toLocaleString("en")} of ${progress.total.toLocaleString("en")} tokens`;
}

function drawnCall(call) {
  return el("div", { class: "call" }, el("span", { class: "call-name" }, call.name), el("pre", {}, el("code", {}, pretty(call.text))));
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Pairs as a list of terms. */
export function facts(pairs) {
  return el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}
