// What the server is and does, in a line and in detail.
import { by, bytes, el } from "./dom.js";
import { facts } from "./message_view.js";
import { status } from "./server.js";

const EVERY = 5000; // milliseconds

export class StatusView {
  constructor() {
    this.state = null;
    by("server").addEventListener("toggle", () => this.refresh());
    setInterval(() => document.hidden || this.refresh(), EVERY);
  }

  /** Asks again. Nothing is thrown: that the server is away is what it shows then. */
  async refresh() {
    try {
      this.state = await status();
      this._draw(this.state);
    } catch (error) {
      by("server-line").textContent = "no answer";
      by("server-facts").replaceChildren(error.message);
    }
  }

  _draw(state) {
    const { memory } = state;
    const used = memory ? [bytes(memory.process || memory.weights + memory.snapshots)] : [];
    const brief = [...used, ...(state.running ? [`${state.running} running`] : [])].join(" · ");
    by("server-line").replaceChildren(el("span", { class: "model" }, brief ? `${state.model} · ` : state.model), ...(brief ? [el("span", {}, brief)] : []));
    if (!by("server").open) return;
    const speed = state.seconds ? ` in ${Math.round(state.seconds)} s` : "";
    const pairs = [
      ["model", `${state.model}: ${state.summary}`],
      ["at work", `${state.running} of ${state.slots} at a time, ${state.waiting} waiting`],
      ...(memory ? memoryFacts(memory) : []),
      ["replies", `${state.replies}: ${state.generated_tokens.toLocaleString("en")} tokens${speed}`],
      ["prompts", `${state.prompt_tokens.toLocaleString("en")} tokens, ${state.reused_tokens.toLocaleString("en")} of them reused`],
      ["version", state.version],
    ];
    by("server-facts").replaceChildren(...facts(pairs).children);
  }
}

function memoryFacts({ process, weights, free, total, snapshots, snapshots_most: most, disk }) {
  return [
    ["memory", `${bytes(process)} of this process, ${bytes(weights)} of weights; ${bytes(free)} of ${bytes(total)} free`],
    ["kept", `${bytes(snapshots)} of at most ${bytes(most)} to go back to, ${bytes(disk)} on disk`],
  ];
}
