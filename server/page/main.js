// Asks the server once a second, as long as somebody looks.
const PERIOD_MS = 1000;
const TIMEOUT_MS = 5000;
const STATES = {
  SERVING: ['Serving', ''],
  STALLED: ['Stalled', 'The engine shows no sign of life. The server recovers by itself if it moves again.'],
  DRAINING: ['Draining', 'The server is draining: it finishes what runs and takes no new requests.'],
  FAILED: ['Failed', 'The engine has failed. Nothing is served any more.'],
};
let key = '';
let lastAnswer = null;  // when the server answered last
let timer = null;
let asking = false;

const authorization = () => key ? {Authorization: `Bearer ${key}`} : {};

function showState(state, name, notice) {
  document.body.dataset.state = state;
  setText('state', name);
  byId('notice').hidden = notice === '';
  setText('notice', notice);
}

function askForKey(why) {
  byId('key-form').hidden = false;
  showState('REFUSED', 'Key needed', why);
}

function showFacts({model, server, memory, load}) {
  setText('model-name', model.name);
  document.title = `${model.name} · mea`;
  const kind = {mea: 'MEA', kha: 'KHA', iha: 'IHA', none: 'plain'}[model.composition] ?? model.composition;
  const facts = {
    'Model': model.name,
    'Family': `${model.family}, ${kind}, ${model.num_layers} layers`,
    'Key and value heads': `${formatCount(model.stored_heads)} stored of ${formatCount(model.attended_heads)} attended`,
    'Context': `${formatCount(model.max_context)} tokens`,
    'Weights': `${model.weight_dtype}, ${formatBytes(memory.weights)}`,
    'Cache': `${model.kv_dtype}, ${formatBytes(memory.kv_cache)}`,
    'Workspace': formatBytes(memory.workspace + memory.scratch + memory.graphs),
    'Device': server.device,
    'Version': `${server.version}, ${server.build}`,
    'Up': `${formatSpan(server.time - server.start_time)}`,
    'Tokens': `${formatCount(load.prompt_tokens)} of prompts, ${formatCount(load.generation_tokens)} drawn`,
    'Preemptions': formatCount(load.preemptions),
  };
  byId('facts').replaceChildren(...Object.entries(facts).map(([name, value]) =>
      element('div', {}, element('dt', {}, name), element('dd', {}, value))));
}

function show(status) {
  lastAnswer = Date.now() / 1000;
  byId('key-form').hidden = true;
  showState(status.server.state, ...(STATES[status.server.state] ?? [status.server.state, '']));
  showLoad(status);
  showSequences(status.sequences, status.load);
  firstToken.update(status.server.time, status.time_to_first_token);
  interToken.update(status.server.time, status.inter_token_latency);
  showFacts(status);
  showTalk(status);
}

function showGone() {
  const since = lastAnswer === null ? '' : ` since ${formatClock(lastAnswer)}`;
  showState('GONE', 'No answer', `The server has not answered${since}. What you see is from then; this page keeps asking.`);
}

// The load is not for this key; chatting may be.
async function showForbidden(response) {
  byId('key-form').hidden = false;
  showState('REFUSED', 'No right', `${(await refusalOf(response)).message}: the load stays hidden. The playground needs the right 'inference'.`);
  const info = await fetch('tokenizer_info', {headers: authorization()});
  if (info.ok) talk.chats = (await info.json()).chat_template !== null;
}

// False: it is of no use to ask again.
async function ask() {
  try {
    const response = await fetch(`status.json?after=${past.last}`,
                                 {headers: authorization(), cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS)});
    if (response.ok) {
      show(await response.json());
    } else if (response.status === 401) {
      askForKey(key ? 'The server does not know this key.' : 'This server asks for an API key.');
      return false;
    } else if (response.status === 403) {
      await showForbidden(response);
      return false;
    } else {
      showState('GONE', 'Error', (await refusalOf(response)).message);
    }
  } catch {
    showGone();
  }
  return true;
}

async function poll() {
  clearTimeout(timer);
  if (asking || document.hidden) return;  // visibilitychange goes on
  asking = true;
  const isUseful = await ask();
  asking = false;
  if (isUseful) timer = setTimeout(poll, PERIOD_MS);
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && document.body.dataset.state !== 'REFUSED') poll();
});
byId('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  key = byId('key').value.trim();
  poll();
});
poll();
