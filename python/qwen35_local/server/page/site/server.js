// What the page asks of the server. Addresses are relative, so that the server may lie below a path of another one.
import { by } from "./dom.js";

const KEY = "qwen35-key";
let given = ""; // the key, where it cannot be kept
let asking = null; // the question for a key that is open

/** What the server refused, or that it did not answer; `status` 0. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function ask(path, { body, signal } = {}) {
  for (;;) {
    const key = kept();
    const headers = { ...(key && { authorization: `Bearer ${key}` }), ...(body && { "content-type": "application/json" }) };
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("The server does not answer; it may have ended.");
    }
    if (response.ok) return response;
    const refusal = await refused(response);
    if (response.status !== 401) throw refusal;
    await askForKey(refusal.message, key);
  }
}

async function refused(response) {
  const found = await response.json().catch(() => null);
  const text = found?.error?.message;
  const after = response.headers.get("retry-after");
  const wait = after ? ` Try again in ${after} s.` : "";
  return new ServerError((typeof text === "string" ? text : `The server answered ${response.status}.`) + wait, response.status);
}

function kept() {
  try {
    return sessionStorage.getItem(KEY) ?? given;
  } catch {
    return given;
  }
}

function keep(key) {
  given = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Storage may be forbidden; it then lasts as long as the page.
  }
}

/** Returns when there is another key than the one that was refused. */
async function askForKey(why, refusedKey) {
  if (kept() !== refusedKey) return; // somebody else asked meanwhile
  asking ??= new Promise((resolve) => {
    const dialog = by("key");
    by("key-why").textContent = why;
    by("key-value").value = "";
    dialog.oncancel = (event) => event.preventDefault(); // without a key there is nothing to go back to
    dialog.onclose = () => {
      keep(by("key-value").value.trim());
      asking = null;
      resolve();
    };
    dialog.showModal();
  });
  await asking;
}

/** What the server is and does. */
export async function status() {
  return (await ask("v1/qwen35/status")).json();
}

/** Ends the thinking of a reply. */
export async function answerNow(id) {
  await ask("v1/qwen35/answer-now", { body: { id } });
}

/** The chunks of a reply, as they come. Throws ServerError, or AbortError when `signal` says so. */
export async function* chat(fields, signal) {
  const asked = { stream: true, stream_options: { include_usage: true }, return_progress: true, return_cost: true };
  const response = await ask("v1/chat/completions", { body: { ...fields, ...asked }, signal });
  for await (const line of lines(response.body, signal)) {
    if (!line.startsWith("data: ")) continue;
    const data = line.slice(6);
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message);
    yield chunk;
  }
  throw new ServerError("The connection ended before the reply did.");
}

async function* lines(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts;
    }
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") throw new DOMException("stopped", "AbortError");
    throw new ServerError("The connection was lost.");
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
