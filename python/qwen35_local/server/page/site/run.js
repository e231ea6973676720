// A reply while it is written: chunks become the fields of its message.
import { answerNow, chat } from "./server.js";
import { newId } from "./tree.js";

/** `node` gets the reply; `changed` is called after every change, `ended` after the last one. */
export class Run {
  constructor(node, changed, ended) {
    this.node = node;
    this.progress = null;
    this.startedAt = performance.now();
    this.thoughtFrom = null;
    this._id = null;
    this._changed = changed;
    this._ended = ended;
    this._abort = new AbortController();
  }

  get isThinking() {
    return this.thoughtFrom !== null && this.node.thoughtSeconds === undefined;
  }

  /** Writes the reply that a request gets. */
  async write(fields) {
    const node = this.node;
    node.state = "running";
    try {
      for await (const chunk of chat(fields, this._abort.signal)) {
        this._take(chunk);
        this._changed();
      }
      node.state = "done";
    } catch (error) {
      node.state = error.name === "AbortError" ? "stopped" : "failed";
      if (node.state === "failed") node.error = error.message;
    }
    this._endThought();
    node.calls = node.calls?.filter((call) => node.state === "done" || isWhole(call.text));
    this._ended();
  }

  stop() {
    this._abort.abort();
  }

  async answerNow() {
    if (this._id === null) return;
    try {
      await answerNow(this._id);
    } catch {
      // It ended in the meantime.
    }
  }

  _take(chunk) {
    this._id = chunk.id ?? this._id;
    if (chunk.prompt_progress) this.progress = chunk.prompt_progress;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    this._add(choice.delta ?? {});
    if (choice.qwen35) this.node.cost = { ...choice.qwen35, notes: choice.qwen35.notes.join("; ") };
  }

  _add({ reasoning_content: thought, content, tool_calls: calls }) {
    const node = this.node;
    if (thought || content || calls) this.progress = null;
    if (thought) {
      this.thoughtFrom ??= performance.now();
      node.reasoning = (node.reasoning ?? "") + thought;
    }
    if (content) {
      this._endThought();
      node.content += content;
    }
    for (const { index, id, function: part } of calls ?? []) {
      this._endThought();
      node.calls ??= [];
      node.calls[index] ??= { id: id ?? newId(), name: part?.name ?? "", text: "" };
      node.calls[index].text += part?.arguments ?? "";
    }
  }

  _endThought() {
    if (this.isThinking) this.node.thoughtSeconds = (performance.now() - this.thoughtFrom) / 1000;
  }
}

function isWhole(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
