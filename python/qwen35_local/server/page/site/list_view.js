// The list of conversations.
import { button, by, el } from "./dom.js";
import { titleOf } from "./tree.js";

export class ListView {
  /** `acts`: what the page does on `open(id)`, `rename(id, title)`, `remove(id)`. */
  constructor(acts) {
    this._acts = acts;
    this._conversations = [];
    this._current = null;
    this._isRenaming = false;
    by("search").addEventListener("input", () => this._draw());
    by("search").addEventListener("keydown", (event) => this._key(event));
    by("conversations").addEventListener("keydown", (event) => this._key(event));
    by("show-list").addEventListener("click", () => this.toggle());
    by("hide-list").addEventListener("click", () => this.close());
    by("shade").addEventListener("click", () => this.close());
  }

  show(conversations, current) {
    this._conversations = conversations;
    this._current = current;
    this._draw();
  }

  /** On a narrow page the list lies over the conversation; on a wide one it can be put away. */
  toggle() {
    const isNarrow = matchMedia("(max-width: 760px)").matches;
    document.body.classList.toggle(isNarrow ? "list-open" : "list-away");
  }

  close() {
    document.body.classList.remove("list-open");
  }

  /** Opens it with the cursor in the search. */
  find() {
    document.body.classList.remove("list-away");
    document.body.classList.add("list-open");
    by("search").select();
    by("search").focus();
  }

  /** Whoever is in the list with the keyboard stays there. What a name is typed into is not taken away. */
  _draw() {
    if (this._isRenaming) return;
    const place = by("conversations");
    const at = [...place.children].findIndex((entry) => entry.contains(document.activeElement));
    const held = at < 0 ? null : { id: place.children[at].dataset.id, button: [...place.children[at].children].indexOf(document.activeElement) };
    const sought = by("search").value.trim().toLowerCase();
    const fits = (one) => !sought || Object.values(one.nodes).some((node) => node.content?.toLowerCase().includes(sought)) || titleOf(one).toLowerCase().includes(sought);
    const entries = this._conversations.filter(fits).map((one) => this._entry(one));
    place.replaceChildren(...(entries.length ? entries : [el("p", { class: "hint" }, sought ? "Nothing found." : "No conversations yet.")]));
    if (held === null) return;
    const again = entries.find((entry) => entry.dataset.id === held.id);
    (again?.children[held.button] ?? entries[Math.min(at, entries.length - 1)]?.children[0] ?? by("search")).focus();
  }

  _entry(conversation) {
    const name = titleOf(conversation);
    const isCurrent = conversation.id === this._current;
    const open = button(name, () => this._acts.open(conversation.id), { class: "name", title: name, dir: "auto" });
    if (isCurrent) open.setAttribute("aria-current", "true");
    const entry = el("div", { class: isCurrent ? "entry current" : "entry", "data-id": conversation.id }, open);
    entry.append(
      button("✎", () => this._rename(entry, conversation), { "aria-label": `Rename ${name}`, title: "Rename" }),
      button("✕", () => this._remove(conversation), { "aria-label": `Delete ${name}`, title: "Delete" }),
    );
    return entry;
  }

  _rename(entry, conversation) {
    const field = el("input", { value: titleOf(conversation), maxLength: 200, "aria-label": "Name of the conversation" });
    this._isRenaming = true;
    const end = (keeps) => {
      if (!this._isRenaming) return; // taking the field away takes the focus from it
      this._isRenaming = false;
      this._draw();
      if (keeps) this._acts.rename(conversation.id, field.value.trim());
    };
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      const keeps = event.key === "Enter" && !event.isComposing;
      if (!keeps && event.key !== "Escape") return;
      event.preventDefault(); // else it would press what has the focus next
      end(keeps);
    });
    field.addEventListener("blur", () => end(true));
    entry.replaceChildren(field);
    field.select();
  }

  _remove(conversation) {
    if (confirm(`Delete “${titleOf(conversation)}”? It cannot be brought back.`)) this._acts.remove(conversation.id);
  }

  _key(event) {
    const names = [...by("conversations").querySelectorAll(".name")];
    const at = names.indexOf(document.activeElement);
    if (event.key === "ArrowDown") names[at + 1]?.focus();
    else if (event.key === "ArrowUp") (at > 0 ? names[at - 1] : by("search")).focus();
    else if (event.key === "Enter" && event.target === by("search")) names[0]?.click();
    else return;
    event.preventDefault();
  }
}
