// The official `openai` npm package against a running server. usage: node node_client.mjs PACKAGE_FOLDER BASE_URL KEY MODEL
// Each check is a function; the last line is 'N passed, N failed'.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';
import path from 'node:path';

const [folder, baseURL, apiKey, model] = process.argv.slice(2);
const OpenAI = createRequire(path.join(path.resolve(folder), 'package.json'))('openai');
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120000 });
const messages = [{ role: 'user', content: [{ type: 'text', text: 'Say hello in one short sentence.' }] }];
const greedy = { model, messages, max_tokens: 24, temperature: 0 };

const checks = {
  async lists_models() {
    const ids = [];
    for await (const m of client.models.list()) ids.push(m.id);
    assert(ids.includes(model));
    assert.equal((await client.models.retrieve(model)).id, model);
  },
  async chats_and_streams_the_same_text() {
    const whole = await client.chat.completions.create(greedy);
    assert(whole.choices[0].message.content.length > 0);
    let text = '', finish = null, usage = null;
    for await (const chunk of await client.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta?.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.deepEqual(usage.completion_tokens, whole.usage.completion_tokens);
  },
  async streams_through_the_helper() {
    const runner = client.chat.completions.stream({ ...greedy, max_tokens: 8 });
    let text = '';
    runner.on('content', (delta) => { text += delta; });
    assert.equal(await runner.finalContent(), text);
  },
  async completes() {
    const answer = await client.completions.create({ model, prompt: 'One, two,', max_tokens: 5, temperature: 0, echo: true });
    assert(answer.choices[0].text.startsWith('One, two,'));
  },
  async embeds() {
    const input = ['Where is my parcel?', 'My card was charged twice.'];
    const packed = await client.embeddings.create({ model, input }); // base64, decoded by the client
    const plain = await client.embeddings.create({ model, input, encoding_format: 'float' });
    packed.data.forEach((d, i) => d.embedding.forEach((v, j) => assert(Math.abs(v - plain.data[i].embedding[j]) < 1e-6)));
    assert.equal(packed.data.length, 2);
  },
  async tells_errors() {
    await assert.rejects(client.chat.completions.create({ ...greedy, model: 'gpt-4o' }), (e) => e.status === 404 && e.code === 'model_not_found');
    await assert.rejects(client.chat.completions.create({ ...greedy, top_p: 5 }), (e) => e.status === 400 && e.param === 'top_p');
    await assert.rejects(new OpenAI({ baseURL, apiKey: 'wrong', maxRetries: 0 }).chat.completions.create(greedy), (e) => e.status === 401);
  },
  async aborts_a_stream() {
    const stream = await client.chat.completions.create({ ...greedy, max_tokens: 4000, stream: true, ignore_eos: true });
    for await (const _ of stream) { stream.controller.abort(); break; }
    const url = baseURL.replace(/\/v1$/, '/metrics');
    for (let i = 0; i < 200; i++) {
      const text = await (await fetch(url, { headers: { Authorization: `Bearer ${apiKey}` } })).text();
      if (/fettle_requests_running\{[^}]*\} 0\n/.test(text)) return;
      await new Promise((done) => setTimeout(done, 50));
    }
    assert.fail('the server still works for a client that left');
  },
};
let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log('ok    ', name);
  } catch (error) {
    failed++;
    console.log('FAILED', name, error.message);
  }
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
