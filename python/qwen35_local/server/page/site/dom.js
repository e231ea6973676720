// Elements. Text only ever becomes text: nothing here, or anywhere in the page, parses markup.

/** An element. `properties`: `class`, `on` (listeners by event), `aria-…` and `data-…`, else properties of the element. */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  // Children first: with `dir="auto"` each of them would have the direction found anew.
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") element.className = value;
    else if (key === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (key.includes("-")) element.setAttribute(key, value);
    else element[key] = value;
  }
  return element;
}

/** The element of the page with this id. */
export const by = (id) => document.getElementById(id);

/** A button of text. */
export function button(label, click, properties = {}) {
  return el("button", { type: "button", on: { click }, ...properties }, label);
}

/** Copies a text, and says so on the button for a moment. */
export async function copy(text, from) {
  const label = from.textContent;
  from.textContent = (await copied(text)) ? "Copied" : "Not copied";
  setTimeout(() => (from.textContent = label), 1200);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The clipboard of a page that did not come from this machine or over TLS: through a selection.
    const field = el("textarea", { value: text, class: "off-screen" });
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** A count with its unit: 1,234 tokens. */
export function counted(n, unit) {
  return `${n.toLocaleString("en")} ${unit}${n === 1 ? "" : "s"}`;
}

/** Bytes in binary units. */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${n.toFixed(unit && n < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Seconds, as far as they matter. */
export function seconds(value) {
  return value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}
