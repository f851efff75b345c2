const talk = {messages: [], chats: true, model: null, controller: null, id: null};
const transcript = byId('transcript');

function parametersOf() {
  const body = {};
  for (const name of ['temperature', 'top_p', 'max_tokens', 'seed']) {
    if (byId(name).value !== '') body[name] = Number(byId(name).value);
  }
  return body;
}

function bodyOf(text) {
  const wants = byId('logprobs').checked;
  const body = {...parametersOf(), stream: true, stream_options: {include_usage: true}};
  if (talk.model !== null) body.model = talk.model;
  if (!talk.chats) return {...body, prompt: text, ...(wants ? {logprobs: 5} : {})};
  return {...body, messages: [...talk.messages, {role: 'user', content: text}], ...(wants ? {logprobs: true, top_logprobs: 5} : {})};
}

function showHeld(bytes, allHeads, found) {
  setText('held', bytes === null ? '–' : formatBytes(bytes));
  setText('held-all', allHeads === null ? '–' : formatBytes(allHeads));
  if (found !== undefined) setText('held-prefix', found);
}

function scrollDown() {
  transcript.scrollTop = transcript.scrollHeight;
}

function setBusy(isBusy) {
  byId('send').hidden = isBusy;
  byId('stop').hidden = !isBusy;
  byId('reset').disabled = isBusy;
  transcript.setAttribute('aria-busy', isBusy);
}

// Reads one reply; the numbers it ends with.
async function readReply(text, reply, signal) {
  const start = performance.now();
  const outcome = {tokens: 0, first: null, reason: null, usage: null};
  const path = talk.chats ? 'v1/chat/completions' : 'v1/completions';
  for await (const event of streamEvents(path, bodyOf(text), signal)) {
    talk.id = event.id;
    if (event.usage) outcome.usage = event.usage;
    const choice = event.choices[0];
    if (!choice) continue;
    const delta = choice.delta ?? {content: choice.text};
    if (delta.reasoning_content) {
      reply.think(delta.reasoning_content);
    } else {
      const nearEnd = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 80;
      reply.add(delta.content ?? '', choice.logprobs);
      if (nearEnd) scrollDown();
    }
    outcome.first ??= performance.now() - start;
    outcome.reason = choice.finish_reason ?? outcome.reason;
  }
  outcome.seconds = (performance.now() - start) / 1e3;
  return outcome;
}

function metaOf({usage, first, seconds, reason}) {
  const tokens = usage.completion_tokens;
  const rate = tokens > 1 ? (tokens - 1) / (seconds - first / 1e3) : 0;
  const parts = [tokens === 1 ? '1 token' : `${formatCount(tokens)} tokens`, `first after ${formatSeconds(first / 1e3)}`];
  if (rate > 0) parts.push(`${formatRate(rate)} tokens/s`);
  parts.push({stop: 'complete', length: 'cut off at max tokens'}[reason] ?? reason);
  return parts.join(' · ');
}

function fail(problem, reply, text) {
  if (problem.name === 'AbortError') return reply.end('stopped');
  reply.end('');
  const words = problem instanceof Refusal ? problem.message : 'The server does not answer.';
  transcript.append(element('p', {class: 'failure'}, words));
  if (problem.status === 401) askForKey(words);
  if (byId('prompt').value === '') byId('prompt').value = text;
}

async function send(text) {
  if (!talk.chats) transcript.replaceChildren();
  transcript.append(element('p', {class: 'asked'}, text));
  const reply = new Reply(transcript);
  talk.controller = new AbortController();
  setBusy(true);
  scrollDown();
  try {
    const outcome = await readReply(text, reply, talk.controller.signal);
    reply.end(metaOf(outcome));
    const {kv_cache: kv, prompt_tokens_details: details, prompt_tokens: prompt} = outcome.usage;
    showHeld(kv.bytes, kv.bytes_uncompressed, `${formatCount(details.cached_tokens)} of ${formatCount(prompt)} tokens`);
    setText('announce', `Reply complete: ${metaOf(outcome)}. Cache of the conversation: ${formatBytes(kv.bytes)}.`);
  } catch (problem) {
    fail(problem, reply, text);
  }
  // What was said so far is the conversation, also when it was stopped.
  if (talk.chats && reply.text) talk.messages.push({role: 'user', content: text}, {role: 'assistant', content: reply.text});
  talk.controller = talk.id = null;
  setBusy(false);
  scrollDown();
}

// While a reply is made, the server says what it holds.
function showTalk(status) {
  talk.model = status.model.name;
  talk.chats = status.model.chats;
  byId('playground').classList.toggle('off', !status.server.has_api);
  setText('playground-note', !status.server.has_api ? 'On the port of the HTTP API (--http) this page can chat, too.'
      : talk.chats ? '' : 'This model has no chat template: it continues your text.');
  if (talk.id === null) return;
  const mine = status.sequences.filter((sequence) => sequence.id.startsWith(talk.id));
  if (mine.length > 0) showHeld(mine[0].bytes, mine[0].bytes_uncompressed);
}

byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = byId('prompt').value;
  if (text.trim() === '' || talk.controller !== null) return;
  if (!byId('parameters').reportValidity()) return;
  byId('prompt').value = '';
  send(text);
});
byId('prompt').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId('composer').requestSubmit();
});
byId('parameters').addEventListener('submit', (event) => event.preventDefault());
byId('stop').addEventListener('click', () => {
  talk.controller?.abort();
  byId('prompt').focus();
});
byId('reset').addEventListener('click', () => {
  talk.messages = [];
  transcript.replaceChildren();
  showHeld(null, null, '–');
  byId('prompt').focus();
});
transcript.addEventListener('scroll', () => { card.hidden = true; });

