// The settings of a conversation, and the dialog for them.
import { by, el } from "./dom.js";

// [name in the request, label, least, most, step]; empty: the model's own.
const NUMBERS = [
  ["temperature", "Temperature", 0, 100, "any"],
  ["top_p", "Top p", 0, 1, "any"],
  ["top_k", "Top k", 0, 1000000, 1],
  ["min_p", "Min p", 0, 1, "any"],
  ["presence_penalty", "Presence penalty", -2, 2, "any"],
  ["repetition_penalty", "Repetition penalty", 0.01, 10, "any"],
  ["max_tokens", "Reply, at most tokens", 1, 1000000, 1],
  ["seed", "Seed", 0, Number.MAX_SAFE_INTEGER, 1],
];
const DEFAULTS_KEY = "qwen35-settings";

export const PLAIN = { system: "", tools: "", thinking: "default", budget: 1024, numbers: {} };

/** Settings from anywhere: what is not of its kind is left out. */
export function checked(given) {
  const found = structuredClone(PLAIN);
  if (typeof given !== "object" || given === null) return found;
  if (typeof given.system === "string") found.system = given.system;
  if (typeof given.tools === "string" && toolsError(given.tools) === "") found.tools = given.tools;
  if (["default", "on", "budget", "off"].includes(given.thinking)) found.thinking = given.thinking;
  if (Number.isInteger(given.budget) && given.budget > 0) found.budget = Math.min(given.budget, 1000000);
  for (const [name, , least, most] of NUMBERS) {
    const value = given.numbers?.[name];
    if (typeof value === "number" && value >= least && value <= most) found.numbers[name] = value;
  }
  return found;
}

/** The settings that new conversations begin with. */
export function defaults() {
  try {
    return checked(JSON.parse(localStorage.getItem(DEFAULTS_KEY)));
  } catch {
    return structuredClone(PLAIN);
  }
}

/** The fields of a request. */
export function requestFields(settings) {
  const fields = { ...settings.numbers };
  if (settings.tools.trim()) fields.tools = JSON.parse(settings.tools);
  if (settings.thinking !== "default") fields.chat_template_kwargs = { enable_thinking: settings.thinking !== "off" };
  if (settings.thinking === "budget") fields.thinking_budget = settings.budget;
  return fields;
}

function toolsError(text) {
  if (!text.trim()) return "";
  try {
    return Array.isArray(JSON.parse(text)) ? "" : "Tools: expected a list.";
  } catch (error) {
    return `Tools: not JSON (${error.message}).`;
  }
}

/** Asks for settings; `done` gets them when they are saved. `sampling`: the model's own, shown where nothing is set. */
export function ask(settings, sampling, done) {
  by("system").value = settings.system;
  by("tools").value = settings.tools;
  by("settings-error").textContent = "";
  const inputs = NUMBERS.map(([name, , min, max, step]) => {
    const own = sampling?.[name];
    const placeholder = own === undefined ? "" : String(Number(own.toPrecision(4))); // a file has them as 32-bit floats
    return el("input", { type: "number", min, max, step, name, placeholder, value: settings.numbers[name] ?? "" });
  });
  by("numbers").replaceChildren(...inputs.map((input, n) => el("label", { class: "field" }, NUMBERS[n][1], input)));
  by("as-default").checked = false;
  const dialog = by("settings");
  by("cancel-settings").onclick = () => dialog.close();
  dialog.firstElementChild.onsubmit = (event) => {
    event.preventDefault();
    const error = toolsError(by("tools").value);
    by("settings-error").textContent = error;
    if (error) return;
    const numbers = Object.fromEntries(inputs.filter((input) => input.value !== "").map((input) => [input.name, input.valueAsNumber]));
    const found = checked({ ...settings, system: by("system").value, tools: by("tools").value, numbers });
    if (by("as-default").checked) keepDefaults(found);
    dialog.close();
    done(found);
  };
  dialog.showModal();
}

function keepDefaults(settings) {
  try {
    localStorage.setItem(DEFAULTS_KEY, JSON.stringify(settings));
  } catch {
    // Storage may be forbidden or full; the conversation has them all the same.
  }
}
