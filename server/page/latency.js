// Percentiles of the last minute: differences between what a histogram has seen now and then.
const LATENCY_WINDOW_S = 60;

// As Prometheus does it: evenly spread within a bucket.
function percentile(bounds, counts, share) {
  const total = counts.reduce((a, b) => a + b, 0);
  let left = share * total;
  for (let i = 0; i < counts.length; ++i) {
    if (left <= counts[i] && counts[i] > 0) {
      const low = i === 0 ? 0 : bounds[i - 1];
      return i === bounds.length ? low : low + (bounds[i] - low) * left / counts[i];
    }
    left -= counts[i];
  }
  return null;
}

class Latency {
  constructor(name, label) {
    this.name = name;
    this.chart = new BucketChart(`${name}-chart`, label);
    this.seen = [];  // {time, counts}, oldest first
  }

  update(time, {bounds, counts}) {
    const last = this.seen[this.seen.length - 1];
    if (last && counts.some((c, i) => c < last.counts[i])) this.seen = [];  // the server began anew
    this.seen.push({time, counts});
    while (this.seen.length > 1 && this.seen[1].time <= time - LATENCY_WINDOW_S) this.seen.shift();
    let recent = counts.map((c, i) => c - this.seen[0].counts[i]);
    const isRecent = recent.some((c) => c > 0);
    if (!isRecent) recent = counts;
    this.show(bounds, recent, isRecent ? 'last minute' : 'since the start');
  }

  show(bounds, counts, when) {
    const parts = [0.5, 0.95, 0.99].map((share) => {
      const value = percentile(bounds, counts, share);
      return element('span', {}, element('b', {}, value === null ? '–' : formatSeconds(value)), `p${100 * share}`);
    });
    byId(`${this.name}-percentiles`).replaceChildren(...parts);
    setText(`${this.name}-when`, when);
    this.chart.update(bounds, counts);
  }
}

const firstToken = new Latency('first', 'Shares of times to the first token');
const interToken = new Latency('inter', 'Shares of times between tokens');

