// Conversations out to a file, and in from one.
import { el } from "./dom.js";
import { exported, imported } from "./store.js";
import { newId } from "./tree.js";

/** Has the browser save a file of all of them. */
export function exportAll(conversations) {
  const address = URL.createObjectURL(new Blob([exported(conversations)], { type: "application/json" }));
  const day = new Date().toISOString().slice(0, 10);
  el("a", { href: address, download: `qwen35-conversations-${day}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

/** Keeps what the chosen files hold, beside what there is. Returns what is to be said about it. */
export async function importFiles(input, keep) {
  const said = [];
  for (const file of [...input.files]) {
    try {
      const found = await imported(file);
      for (const conversation of found) await keep({ ...conversation, id: newId() });
      said.push(`${found.length} from ${file.name}.`);
    } catch (error) {
      said.push(error.message);
    }
  }
  input.value = ""; // so that the same file can be chosen again
  return said.join(" ");
}
