// The AI SDK and its provider for OpenAI's dialect, on which editors and agents for the terminal are built.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import {
  CAPITAL,
  PERSON,
  QUESTIONS,
  STORY,
  SUM,
  WEATHER,
  endless,
  fallsSilent,
  isBusy,
  oneByOne,
  together,
  url,
  weatherIn,
} from "./asked.mjs";

const provider = createOpenAICompatible({
  name: "local",
  baseURL: `${url}/v1`,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const asked = (prompt) => ({ model: provider("demo"), prompt, temperature: 0, seed: 1, maxRetries: 0 });
const extra = (fields) => ({ providerOptions: { local: fields } });
const direct = extra({ reasoningEffort: "none" });

/** The weather as a tool, and the cities that it was asked about. */
function weather() {
  const cities = [];
  const get_weather = tool({
    description: "Get the weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => (cities.push(city), weatherIn(city)),
  });
  return { cities, tools: { get_weather } };
}

test("a stream adds up to the answer", async () => {
  const whole = await generateText(asked(CAPITAL));
  assert.match(whole.text, /Rome/);
  assert.equal(whole.finishReason, "stop");
  const stream = streamText(asked(CAPITAL));
  const pieces = [];
  for await (const piece of stream.textStream) pieces.push(piece);
  assert.ok(pieces.length > 1);
  assert.equal(pieces.join(""), whole.text);
  assert.equal(await stream.reasoningText, whole.reasoningText);
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
});

test("thinking is on and off", async () => {
  const on = await generateText(asked(SUM));
  assert.ok(on.reasoningText);
  assert.ok(on.usage.outputTokenDetails.reasoningTokens > 0);
  for (const off of [direct, extra({ chat_template_kwargs: { enable_thinking: false } })]) {
    const answer = await generateText({ ...asked(SUM), ...off });
    assert.equal(answer.reasoningText, undefined);
    assert.match(answer.text, /42/);
  }
});

test("a tool is run and its result is read", async () => {
  const { cities, tools } = weather();
  const stopWhen = stepCountIs(3);
  const whole = await generateText({ ...asked(WEATHER), tools, stopWhen });
  assert.match(whole.text, /17/);
  assert.equal(whole.steps.length, 2);
  const stream = streamText({ ...asked(WEATHER), tools, stopWhen });
  assert.equal(await stream.text, whole.text);
  assert.deepEqual(cities, ["Rome", "Rome"]);
});

test("a call can be required", async () => {
  const { tools } = weather();
  const toolChoice = { type: "tool", toolName: "get_weather" };
  const reply = await generateText({ ...asked("Hello! My name is Ann."), tools, toolChoice });
  assert.deepEqual(reply.toolCalls.map((call) => [call.toolName, typeof call.input.city]), [["get_weather", "string"]]);
});

test("an answer has the form that was asked for", async () => {
  const schema = z.object({ name: z.string(), age: z.number().int() });
  for (const thinking of [{}, direct]) {
    const form = { output: Output.object({ schema }), ...thinking };
    const whole = await generateText({ ...asked(PERSON), ...form });
    assert.deepEqual(schema.parse(whole.output), whole.output);
    const stream = streamText({ ...asked(PERSON), ...form });
    assert.deepEqual(await stream.output, whole.output);
  }
});

test("errors are of the client's own type", async () => {
  const wrong = { ...asked(SUM), temperature: -1 };
  const refused = (error) => {
    assert.ok(APICallError.isInstance(error));
    assert.equal(error.statusCode, 400);
    assert.equal(error.isRetryable, false);
    assert.match(error.message, /temperature/);
    return true;
  };
  await assert.rejects(generateText(wrong), refused);
  const errors = [];
  await streamText({ ...wrong, onError: ({ error }) => errors.push(error) }).consumeStream();
  assert.equal(errors.length, 1);
  refused(errors[0]);
});

test("what is aborted ends on the server too", async () => {
  const long = { ...asked(STORY), temperature: 1, maxOutputTokens: 3000, ...extra(endless) };
  const abort = new AbortController();
  const kinds = [];
  for await (const part of streamText({ ...long, abortSignal: abort.signal }).fullStream) {
    kinds.push(part.type);
    if (kinds.length !== 10) continue;
    assert.ok(await isBusy());
    abort.abort();
  }
  assert.equal(kinds.at(-1), "abort");
  assert.ok(await fallsSilent());
  await assert.rejects(generateText({ ...long, abortSignal: AbortSignal.timeout(300) }), { name: /Abort|Timeout/ });
  assert.ok(await fallsSilent());
});

test("several at once are told what each is told alone", async () => {
  const ask = async (question) => {
    const { text, reasoningText } = await generateText({ ...asked(question), temperature: 1.5, maxOutputTokens: 120 });
    return [text, reasoningText];
  };
  const alone = await oneByOne(QUESTIONS, ask);
  assert.deepEqual(await together([...QUESTIONS, ...QUESTIONS], ask), [...alone, ...alone]);
});
