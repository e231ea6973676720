// OpenAI's client for Node against the server.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import {
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

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
const chat = client.chat.completions;
const said = (content) => ({ model: "demo", temperature: 0, seed: 1, messages: [{ role: "user", content }] });
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the weather in a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

test("a stream adds up to the answer", async () => {
  const whole = await chat.create(said(SUM));
  assert.match(whole.choices[0].message.content, /42/);
  assert.equal(whole.choices[0].finish_reason, "stop");
  const stream = chat.stream({ ...said(SUM), stream_options: { include_usage: true } });
  const pieces = [];
  stream.on("content", (delta) => pieces.push(delta));
  const final = await stream.finalChatCompletion();
  assert.ok(pieces.length > 1);
  assert.equal(pieces.join(""), whole.choices[0].message.content);
  assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  assert.equal(final.usage.completion_tokens, whole.usage.completion_tokens);
});

test("thinking is on and off", async () => {
  const on = await chat.create(said(SUM));
  assert.ok(on.choices[0].message.reasoning_content);
  assert.ok(on.usage.completion_tokens_details.reasoning_tokens > 0);
  const off = await chat.create({ ...said(SUM), reasoning_effort: "none" });
  assert.equal(off.choices[0].message.reasoning_content, undefined);
  assert.equal(off.usage.completion_tokens_details.reasoning_tokens, 0);
});

test("a tool is run and its result is read", async () => {
  const cities = [];
  const run = ({ city }) => (cities.push(city), weatherIn(city));
  const tools = [{ ...weather, function: { ...weather.function, parse: JSON.parse, function: run } }];
  for (const stream of [false, true]) {
    const runner = chat.runTools({ ...said(WEATHER), tools, stream });
    assert.match(await runner.finalContent(), /17/);
  }
  assert.deepEqual(cities, ["Rome", "Rome"]);
});

test("a call is streamed as it is told whole", async () => {
  const whole = (await chat.create({ ...said(WEATHER), tools: [weather] })).choices[0];
  assert.equal(whole.finish_reason, "tool_calls");
  const final = await chat.stream({ ...said(WEATHER), tools: [weather] }).finalChatCompletion();
  const [[told], [streamed]] = [whole.message.tool_calls, final.choices[0].message.tool_calls];
  assert.deepEqual(JSON.parse(told.function.arguments), { city: "Rome" });
  assert.equal(streamed.function.name, told.function.name);
  assert.equal(streamed.function.arguments, told.function.arguments);
});

test("a call can be required", async () => {
  const tool_choice = { type: "function", function: { name: "get_weather" } };
  const reply = await chat.create({ ...said("Hello! My name is Ann."), tools: [weather], tool_choice });
  assert.deepEqual(reply.choices[0].message.tool_calls.map((call) => call.function.name), ["get_weather"]);
});

test("an answer has the form that was asked for", async () => {
  const Person = z.object({ name: z.string(), age: z.number().int() });
  const form = { response_format: zodResponseFormat(Person, "person") };
  for (const thinking of [{}, { reasoning_effort: "none" }]) {
    const whole = await chat.parse({ ...said(PERSON), ...form, ...thinking });
    const { parsed } = whole.choices[0].message;
    assert.deepEqual(Person.parse(parsed), parsed);
    const streamed = await chat.stream({ ...said(PERSON), ...form, ...thinking }).finalChatCompletion();
    assert.deepEqual(streamed.choices[0].message.parsed, parsed);
  }
});

test("responses are whole, streamed and gone on from", async () => {
  const asked = { model: "demo", temperature: 0, input: SUM };
  const whole = await client.responses.create(asked);
  assert.match(whole.output_text, /42/);
  const streamed = await client.responses.stream(asked).finalResponse();
  assert.equal(streamed.output_text, whole.output_text);
  const next = await client.responses.create({ ...asked, input: "And what is 7 + 8?", previous_response_id: whole.id });
  assert.ok(next.usage.input_tokens > whole.usage.input_tokens);
});

test("errors are of the client's own types", async () => {
  await assert.rejects(chat.create({ ...said(SUM), temperature: -1 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.param, error.type], [400, "temperature", "invalid_request_error"]);
    return true;
  });
  await assert.rejects(chat.create({ ...said(SUM), temperature: -1, stream: true }), OpenAI.BadRequestError);
  await assert.rejects(client.models.retrieve("other"), OpenAI.NotFoundError);
  const long = said("word ".repeat(9000));
  await assert.rejects(chat.create(long), { status: 400, code: "context_length_exceeded" });
});

test("what is aborted ends on the server too", async () => {
  const asked = { ...said(STORY), temperature: 1, max_tokens: 3000, ...endless };
  const stream = await chat.create({ ...asked, stream: true });
  let seen = 0;
  for await (const _ of stream) {
    if (++seen !== 5) continue;
    assert.ok(await isBusy());
    stream.controller.abort();
  }
  assert.ok(await fallsSilent());
  const signal = AbortSignal.timeout(300);
  await assert.rejects(chat.create(asked, { signal }), OpenAI.APIUserAbortError);
  assert.ok(await fallsSilent());
});

test("several at once are told what each is told alone", async () => {
  const warm = { temperature: 1.5, seed: 11, max_tokens: 120 };
  const ask = async (question) => (await chat.create({ ...said(question), ...warm })).choices[0].message;
  const streamed = async (question) =>
    (await chat.stream({ ...said(question), ...warm }).finalChatCompletion()).choices[0].message.content;
  const alone = await oneByOne(QUESTIONS, ask);
  const [whole, pieces] = await Promise.all([together(QUESTIONS, ask), together(QUESTIONS, streamed)]);
  assert.deepEqual(whole, alone);
  assert.deepEqual(pieces, alone.map((message) => message.content));
});
