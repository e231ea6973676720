// The messages of the conversation that is shown.
import { by } from "./dom.js";
import { MessageView } from "./message_view.js";
import { openCalls, path, place } from "./tree.js";

const NEAR = 80; // pixels from the end within which the view follows what is written

export class ChatView {
  /** `runOf(node)`: what writes a message, or null. `acts` as of `MessageView`. */
  constructor(acts, runOf) {
    this._acts = acts;
    this._runOf = runOf;
    this._views = new Map();
    this._conversation = null;
    this._follows = true;
    this._isDue = false;
    this._took = 0; // milliseconds that the last drawing of a running reply took
    by("scroll").addEventListener("scroll", () => (this._follows = this._distance() < NEAR), { passive: true });
    by("messages").addEventListener("keydown", (event) => this._key(event));
  }

  /** Shows a conversation as it now is. */
  show(conversation) {
    const nodes = path(conversation);
    if (conversation !== this._conversation) this._views.clear();
    this._conversation = conversation;
    const views = new Map(nodes.map((node) => [node.id, this._viewOf(node)]));
    this._views = views;
    const elements = [...views.values()].map((view) => view.element);
    const before = [...by("messages").children];
    if (elements.length !== before.length || elements.some((element, n) => element !== before[n])) by("messages").replaceChildren(...elements);
    for (const view of views.values()) this._update(view);
    if (this._follows) this.toEnd();
  }

  _viewOf(node) {
    const known = this._views.get(node.id);
    return known?.node === node ? known : new MessageView(node, this._acts);
  }

  _update(view) {
    const open = view.node.calls ? openCalls(this._conversation, view.node) : [];
    view.update(this._runOf(view.node), place(this._conversation, view.node), open);
  }

  /** Shows a message as it now is, with the next frame. */
  refresh(node) {
    if (this._isDue) return;
    this._isDue = true;
    const draw = () => {
      this._isDue = false;
      const began = performance.now();
      const view = this._views.get(node.id);
      if (view === undefined) return;
      this._update(view);
      if (this._follows) this.toEnd();
      this._took = performance.now() - began;
    };
    // A page that is not seen has no frames, and goes on all the same; text that takes long to draw is drawn less often.
    if (document.hidden) setTimeout(draw, 500);
    else if (this._took > 30) setTimeout(draw, 3 * this._took);
    else requestAnimationFrame(draw);
  }

  toEnd() {
    const scroll = by("scroll");
    scroll.scrollTop = scroll.scrollHeight;
    this._follows = true;
  }

  _distance() {
    const scroll = by("scroll");
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
  }

  /** Sets the focus on a message. */
  focus(node) {
    this._views.get(node.id)?.element.focus();
  }

  _key(event) {
    const article = event.target;
    if (article.tagName !== "ARTICLE" || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const { node } = this._views.get(article.dataset.id);
    switch (event.key) {
      case "ArrowLeft":
        this._acts.turn(node, -1);
        break;
      case "ArrowRight":
        this._acts.turn(node, 1);
        break;
      case "ArrowUp":
        (article.previousElementSibling ?? article).focus();
        break;
      case "ArrowDown":
        (article.nextElementSibling ?? by("input")).focus();
        break;
      case "e":
        this._views.get(node.id).edit();
        break;
      case "r":
        if (node.role === "assistant") this._acts.retry(node);
        break;
      default:
        return;
    }
    event.preventDefault();
  }
}
