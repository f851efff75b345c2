// The last minutes, as the server has kept them.
const past = {last: 0, started: null, samples: []};
const MAX_SAMPLES = 600;

const cacheChart = new TimeChart('cache-chart', {
  label: 'KV cache in use over time', format: formatBytes, isBytes: true,
  series: [{name: 'with all heads', kind: 'dashed', value: (s) => s.bytes_uncompressed},
           {name: 'stored', kind: 'area', value: (s) => s.bytes}]});
const rateChart = new TimeChart('rate-chart', {
  label: 'Tokens per second over time', format: formatRate,
  series: [{name: 'of prompts', kind: 'dashed', value: (s) => s.prompt_rate},
           {name: 'drawn', kind: 'area', value: (s) => s.generation_rate}]});
const requestChart = new TimeChart('request-chart', {
  label: 'Requests over time', format: formatCount,
  series: [{name: 'waiting', kind: 'dashed', value: (s) => s.waiting},
           {name: 'running', kind: 'area', value: (s) => s.running}]});

function addSamples(history) {
  if (history.first > past.last + 1) past.samples = [];  // what lies between is gone
  for (const row of history.samples) {
    const sample = Object.fromEntries(history.columns.map((name, i) => [name, row[i]]));
    const before = past.samples[past.samples.length - 1];
    const rate = (name) => before ? (sample[name] - before[name]) / (sample.time - before.time) : 0;
    sample.prompt_rate = rate('prompt_tokens');
    sample.generation_rate = rate('generation_tokens');
    past.samples.push(sample);
  }
  past.last = history.first + history.samples.length - 1;
  past.samples.splice(0, past.samples.length - MAX_SAMPLES);
}

function showCache(cache) {
  setText('bytes', formatBytes(cache.bytes));
  setText('bytes-all', formatBytes(cache.bytes_uncompressed));
  const ratio = cache.bytes_per_token / cache.bytes_per_token_uncompressed;
  const most = past.samples.reduce((best, s) => Math.max(best, s.bytes), cache.bytes);
  const saved = cache.bytes_per_token < cache.bytes_per_token_uncompressed
      ? `A token takes ${formatBytes(cache.bytes_per_token)} instead of ${formatBytes(cache.bytes_per_token_uncompressed)}: ${formatDigits(100 * ratio)} %.`
      : `This model stores all of its heads: a token takes ${formatBytes(cache.bytes_per_token)}.`;
  setText('saving', `${saved} Peak in the chart: ${formatBytes(most)}.`);

  const percent = (bytes) => `${100 * bytes / cache.bytes_total}%`;
  byId('pool').querySelector('.used').style.width = percent(cache.bytes);
  byId('pool').querySelector('.cached').style.width = percent(cache.bytes_cached);
  const free = cache.bytes_total - cache.bytes - cache.bytes_cached;
  const room = formatCount(cache.max_tokens);
  const text = `Of ${formatBytes(cache.bytes_total)}: ${formatBytes(cache.bytes)} used, ${formatBytes(cache.bytes_cached)} kept for known prompts, ` +
      `${formatBytes(free)} free. Room for ${room} tokens; with all heads it would be ${formatCount(cache.max_tokens * ratio)}.`;
  setText('pool-text', text);
  byId('pool').setAttribute('aria-label', text);
}

function showLoad(status) {
  if (past.started !== status.server.start_time) Object.assign(past, {last: 0, started: status.server.start_time, samples: []});
  addSamples(status.history);
  const newest = past.samples[past.samples.length - 1];
  showCache(status.cache);
  setText('running', formatCount(status.load.running));
  setText('waiting', formatCount(status.load.waiting));
  setText('generation-rate', formatRate(newest?.generation_rate ?? 0));
  setText('prompt-rate', formatRate(newest?.prompt_rate ?? 0));
  for (const chart of [cacheChart, rateChart, requestChart]) chart.update(past.samples, status.server.time);
}

