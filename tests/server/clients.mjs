// The packages of OpenAI and of Vercel, asking a server; what they get is printed as JSON. By hand:
//
//   python -m tests.server.scripted tiered serve --port 8499 &
//   mkdir -p build/node && cp tests/server/clients.mjs build/node/ && cd build/node
//   npm install openai ai @ai-sdk/openai @ai-sdk/openai-compatible zod
//   node clients.mjs http://127.0.0.1:8499/v1
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const baseURL = process.argv[2];
const model = "tiered/small";
const Dog = z.object({ name: z.string() });
const parameters = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
const said = (text) => [{ role: "user", content: text }];

async function openai() {
  const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
  const chat = client.chat.completions;
  const functions = [{ type: "function", function: { name: "add", parameters } }];
  const got = {};
  const { data, response } = await chat
    .create({ model: "tiered", messages: said("words"), complexity: 2, local_only: true })
    .withResponse();
  got.words = [data.choices[0].message.content, response.headers.get("x-tiered-reason")];
  const stream = await chat.create({
    model, messages: said("think"), stream: true, stream_options: { include_usage: true },
  });
  got.stream = [];
  for await (const chunk of stream) {
    const delta = chunk.choices[0]?.delta;
    got.stream.push(delta ? delta.reasoning_content ?? delta.content ?? null : chunk.usage);
  }
  const called = await chat.create({ model, messages: said("call two"), tools: functions });
  const message = called.choices[0].message;
  got.calls = message.tool_calls.map((call) => call.function);
  const results = message.tool_calls.map((call) => (
    { role: "tool", tool_call_id: call.id, content: "2" }
  ));
  const messages = [...said("call two"), message, ...results];
  const then = await chat.create({ model, messages, tools: functions });
  got.results = then.choices[0].message.content;
  const runner = chat.runTools({
    model, messages: said("call"),
    tools: [{ type: "function", function: {
      name: "add", parameters, parse: JSON.parse, function: ({ a }) => `${a + 1}`,
    } }],
  });
  got.ranTools = await runner.finalContent();
  const dog = await chat.parse({
    model, messages: said("dog"), response_format: zodResponseFormat(Dog, "dog"),
  });
  got.dog = dog.choices[0].message.parsed;
  const first = await client.responses.create({ model, input: "words" });
  const second = await client.responses.create({
    model, input: "history", previous_response_id: first.id,
  });
  got.responses = [first.output_text, second.output_text];
  got.again = (await client.responses.retrieve(second.id)).output_text;
  got.events = [];
  for await (const event of await client.responses.create({ model, input: "think", stream: true })) {
    got.events.push(event.type.replace("response.", ""));
  }
  got.errors = [];
  for (const wrong of [{ model: "none" }, { n: 2 }, { localonly: true }]) {
    const error = await chat.create({ model, messages: said("words"), ...wrong }).catch((e) => e);
    got.errors.push([error.constructor.name, error.code]);
  }
  const broken = await chat.create({ model, messages: said("break"), stream: true });
  const read = async () => { for await (const _ of broken); };
  got.broken = await read().catch((error) => error.code);
  return got;
}

async function vercel(model) {
  const tools = { add: tool({ inputSchema: z.object({ a: z.number() }), execute: ({ a }) => a + 1 }) };
  const got = {};
  const words = await generateText({ model, prompt: "think" });
  got.words = [words.text, words.reasoningText, words.usage.totalTokens, words.finishReason];
  const stream = streamText({ model, prompt: "think" });
  got.stream = [];
  for await (const part of stream.fullStream) {
    got.stream.push(part.text === undefined ? part.type : `${part.type}: ${part.text}`);
  }
  const loop = await generateText({ model, prompt: "call two", tools, stopWhen: stepCountIs(3) });
  got.loop = loop.steps.map((step) => step.toolCalls.map((call) => call.input.a));
  got.results = loop.text;
  const streamed = streamText({ model, prompt: "call", tools, stopWhen: stepCountIs(3) });
  got.streamedLoop = await streamed.text;
  const output = Output.object({ schema: Dog });
  got.dog = (await generateText({ model, prompt: "dog", output })).output;
  const messages = [...said("words"), { role: "assistant", content: "small answer" }];
  got.history = (await generateText({ model, messages: [...messages, ...said("history")] })).text;
  got.error = await generateText({ model, prompt: "break", maxRetries: 0 })
    .then(() => null, (error) => [error.name, error.message]);
  return got;
}

const compatible = createOpenAICompatible({
  name: "tiered", baseURL, includeUsage: true, supportsStructuredOutputs: true,
});
const sdk = createOpenAI({ baseURL, apiKey: "none" });
const got = {
  openai: await openai(),
  "@ai-sdk/openai-compatible": await vercel(compatible(model)),
  "@ai-sdk/openai chat": await vercel(sdk.chat(model)),
  "@ai-sdk/openai responses": await vercel(sdk.responses(model)),
};
console.log(JSON.stringify(got, null, 1));
