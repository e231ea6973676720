// What a reply took, in words.
import { counted, seconds } from "./dom.js";

const ENDS = {
  length: "the reply reached its length",
  context: "the context is full",
  loop: "it repeated itself and was ended",
  cancelled: "it was cancelled",
};

/** The line below a reply, and the longer account of why its prompt cost what it did. */
export function costOf(node) {
  if (node.state === "stopped") return { line: "stopped", why: [] };
  if (node.state === "running") return { line: "being written in another tab", why: [] };
  const cost = node.cost;
  if (!cost) return { line: "", why: [] };
  const parts = [counted(cost.generated_tokens, "token")];
  if (cost.tokens_per_second) parts.push(`${cost.tokens_per_second.toFixed(1)} tokens/s`);
  parts.push(`prompt ${cost.prompt_tokens.toLocaleString("en")}: ${cost.reused_tokens.toLocaleString("en")} reused, ${cost.evaluated_tokens.toLocaleString("en")} read`);
  if (cost.drafted_tokens) parts.push(`${cost.accepted_tokens.toLocaleString("en")} of ${cost.drafted_tokens.toLocaleString("en")} drafts accepted`);
  if (cost.notes) parts.push(cost.notes);
  else if (ENDS[cost.reason]) parts.push(ENDS[cost.reason]);
  return { line: parts.join(" · "), why: why(cost) };
}

function why(cost) {
  const from = cost.source ? `, from ${cost.source}` : "";
  const facts = [
    ["prompt", counted(cost.prompt_tokens, "token")],
    ["reused", `${cost.reused_tokens.toLocaleString("en")}${from}`],
    ["read", `${cost.evaluated_tokens.toLocaleString("en")} now, ${cost.idle_tokens.toLocaleString("en")} since the reply before`],
    ["first token", `after ${seconds(cost.first_token_seconds)}`],
    ["written", `${counted(cost.generated_tokens, "token")}, ${cost.reasoning_tokens.toLocaleString("en")} of them thinking, in ${seconds(cost.seconds)}`],
  ];
  if (cost.drafted_tokens) facts.push(["drafted", drafted(cost)]);
  if (Number.isFinite(cost.differs_at)) {
    facts.push(["difference", `at token ${cost.differs_at.toLocaleString("en")}: ${JSON.stringify(cost.differing_text ?? "")} came where something else was known`]);
  }
  return facts;
}

function drafted(cost) {
  const saved = cost.saved_seconds > 0 ? `, ${seconds(cost.saved_seconds)} saved` : "";
  const each = cost.passes ? `, ${((cost.generated_tokens - 1) / cost.passes).toFixed(1)} tokens a pass` : "";
  return `${counted(cost.drafted_tokens, "token")}, ${cost.accepted_tokens.toLocaleString("en")} accepted, ${cost.accepted_copies.toLocaleString("en")} of them copied${each}${saved}`;
}
