// Charts in SVG with their axes, drawn anew with each answer of the server.
const MARGIN = {top: 8, right: 2, bottom: 22, left: 58};

// Values of the axis: few, round, from 0 to at least `most`. Bytes are round in powers of two.
function axisTicks(most, isBytes, count) {
  if (most <= 0) return [0, isBytes ? 1024 : 1];
  let step;
  if (isBytes) {
    step = 2 ** Math.ceil(Math.log2(most / count));
  } else {
    const decade = 10 ** Math.floor(Math.log10(most / count));
    step = [1, 2, 5, 10].map((n) => n * decade).find((s) => s * count >= most);
    step = Math.max(step, 1);
  }
  const ticks = [];
  for (let tick = 0; tick < most + step; tick += step) ticks.push(tick);
  return ticks;
}

// Minutes or seconds before now, for the axis of time.
function timeTicks(window, width) {
  const steps = [10, 20, 30, 60, 120, 300];
  const step = steps.find((s) => window / s * 64 <= width) ?? 600;
  const ticks = [];
  for (let age = 0; age <= window; age += step) ticks.push(age);
  return ticks;
}
const formatAge = (age) => age === 0 ? 'now' : age < 60 ? `−${age} s` : `−${formatDigits(age / 60)} min`;

// Values over time. A series has a name, value(sample) and a kind: "area" or "dashed". The chart is
// a slider as well: arrow keys and the pointer read single seconds.
class TimeChart {
  constructor(id, {label, format, isBytes = false, series}) {
    Object.assign(this, {host: byId(id), format, isBytes, series, samples: [], now: 0});
    this.chosen = null;  // time of a sample
    this.reading = element('p', {class: 'reading', 'aria-hidden': 'true'});
    this.picture = shape('svg', {'aria-hidden': 'true'});
    this.host.append(this.picture, this.reading);
    fill(this.host, {role: 'slider', tabindex: 0, 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 0}, []);
    new ResizeObserver(() => this.draw()).observe(this.host);
    this.host.addEventListener('pointermove', (event) => this.choose(this.sampleAt(event)));
    this.host.addEventListener('pointerleave', () => this.choose(null));
    this.host.addEventListener('blur', () => this.choose(null));
    this.host.addEventListener('keydown', (event) => this.onKey(event));
  }

  update(samples, now) {
    Object.assign(this, {samples, now});
    this.draw();
  }

  onKey(event) {
    const last = this.samples.length - 1;
    const at = this.chosenIndex() ?? last;
    const to = {ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, PageDown: at - 10, PageUp: at + 10, Home: 0, End: last}[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.choose(this.samples[Math.min(last, Math.max(0, to))]);
  }

  chosenIndex() {
    const index = this.samples.findIndex((sample) => sample.time === this.chosen);
    return index < 0 ? null : index;
  }

  sampleAt(event) {
    if (this.samples.length === 0) return null;
    const x = event.clientX - this.host.getBoundingClientRect().left;
    const time = this.now - this.window * (1 - (x - MARGIN.left) / this.width);
    return this.samples.reduce((best, s) => Math.abs(s.time - time) < Math.abs(best.time - time) ? s : best);
  }

  choose(sample) {
    this.chosen = sample?.time ?? null;
    this.draw();
  }

  say(sample) {
    return `${formatClock(sample.time)}: ` + this.series.map((s) => `${this.format(s.value(sample))} ${s.name}`).join(', ');
  }

  draw() {
    const box = this.host.getBoundingClientRect();
    if (box.width < 80) return;
    const height = box.height - MARGIN.top - MARGIN.bottom;
    this.width = box.width - MARGIN.left - MARGIN.right;
    const span = this.samples.length > 0 ? this.now - this.samples[0].time : 0;
    this.window = [60, 120, 300, 600].find((w) => w >= span) ?? 600;
    const shown = this.samples.filter((s) => s.time >= this.now - this.window);
    const most = Math.max(0, ...shown.flatMap((s) => this.series.map((one) => one.value(s))));
    const ticks = axisTicks(most, this.isBytes, height > 150 ? 4 : 2);
    const top = ticks[ticks.length - 1];
    const x = (time) => MARGIN.left + this.width * (1 - (this.now - time) / this.window);
    const y = (value) => MARGIN.top + height * (1 - value / top);

    const axes = shape('g', {class: 'axes'});
    for (const tick of ticks) {
      axes.append(shape('line', {x1: MARGIN.left, x2: MARGIN.left + this.width, y1: y(tick), y2: y(tick), class: tick === 0 ? 'base' : ''}),
                  shape('text', {x: MARGIN.left - 8, y: y(tick), dy: '0.32em', class: 'end'}, trimmed(this.format(tick))));
    }
    for (const age of timeTicks(this.window, this.width)) {
      const at = x(this.now - age);
      const anchor = age === 0 ? 'end' : at < MARGIN.left + 16 ? 'start' : 'middle';
      axes.append(shape('line', {x1: at, x2: at, y1: y(0), y2: y(0) + 4, class: 'base'}),
                  shape('text', {x: at, y: y(0) + 17, class: anchor}, formatAge(age)));
    }

    const lines = this.series.flatMap((one) => {
      if (shown.length === 0) return [];
      const points = shown.map((s) => `${x(s.time).toFixed(1)},${y(one.value(s)).toFixed(1)}`).join('L');
      const line = shape('path', {d: `M${points}`, class: one.kind});
      if (one.kind !== 'area') return [line];
      const ends = [shown[shown.length - 1], shown[0]].map((s) => `L${x(s.time).toFixed(1)},${y(0)}`).join('');
      return [shape('path', {d: `M${points}${ends}Z`, class: 'fill'}), line];
    });
    this.drawChoice(axes, x, y);
    this.picture.setAttribute('viewBox', `0 0 ${box.width} ${box.height}`);
    this.picture.replaceChildren(axes, ...lines);
  }

  drawChoice(into, x, y) {
    const index = this.chosenIndex();
    const sample = this.samples[index ?? this.samples.length - 1];
    this.host.setAttribute('aria-valuemax', Math.max(0, this.samples.length - 1));
    this.host.setAttribute('aria-valuenow', index ?? Math.max(0, this.samples.length - 1));
    this.host.setAttribute('aria-valuetext', sample ? this.say(sample) : 'no data yet');
    this.reading.textContent = index === null ? '' : this.say(sample);
    if (index === null) return;
    into.append(shape('line', {x1: x(sample.time), x2: x(sample.time), y1: MARGIN.top, y2: y(0), class: 'choice'}));
    for (const one of this.series) into.append(shape('circle', {cx: x(sample.time), cy: y(one.value(sample)), r: 3, class: one.kind}));
  }
}

// Shares of the buckets of a histogram, between their bounds.
class BucketChart {
  constructor(id, label) {
    Object.assign(this, {host: byId(id), label, bounds: [], counts: []});
    this.picture = shape('svg', {role: 'img', 'aria-label': label});
    this.host.append(this.picture);
    new ResizeObserver(() => this.draw()).observe(this.host);
  }

  update(bounds, counts) {
    Object.assign(this, {bounds, counts});
    this.draw();
  }

  draw() {
    const box = this.host.getBoundingClientRect();
    const total = this.counts.reduce((a, b) => a + b, 0);
    if (box.width < 80) return;
    const height = box.height - MARGIN.top - MARGIN.bottom;
    const width = box.width - MARGIN.left - MARGIN.right;
    // One empty bucket on either side of what was seen, and eight at least.
    let first = Math.max(0, this.counts.findIndex((c) => c > 0) - 1);
    let last = Math.min(this.counts.length, this.counts.findLastIndex((c) => c > 0) + 2);
    last = Math.min(this.counts.length, Math.max(last, first + 8));
    first = Math.max(0, Math.min(first, last - 8));
    const counts = this.counts.slice(first, last);
    const most = Math.max(...counts.map((c) => total > 0 ? 100 * c / total : 0), 0);
    const ticks = axisTicks(most || 100, false, 2);
    const top = ticks[ticks.length - 1];
    const slot = width / Math.max(1, counts.length);
    const y = (share) => MARGIN.top + height * (1 - share / top);
    const axes = shape('g', {class: 'axes'});
    for (const tick of ticks) {
      axes.append(shape('line', {x1: MARGIN.left, x2: MARGIN.left + width, y1: y(tick), y2: y(tick), class: tick === 0 ? 'base' : ''}),
                  shape('text', {x: MARGIN.left - 8, y: y(tick), dy: '0.32em', class: 'end'}, `${tick} %`));
    }
    const every = Math.ceil(46 / slot);
    const bars = counts.map((count, i) => {
      const share = total > 0 ? 100 * count / total : 0;
      const bound = this.bounds[first + i];
      if (bound !== undefined && i % every === 0 && i + 1 < counts.length) {
        axes.append(shape('text', {x: MARGIN.left + slot * (i + 1), y: y(0) + 17, class: 'middle'}, trimmed(formatSeconds(bound))),
                    shape('line', {x1: MARGIN.left + slot * (i + 1), x2: MARGIN.left + slot * (i + 1), y1: y(0), y2: y(0) + 4, class: 'base'}));
      }
      return shape('rect', {x: MARGIN.left + slot * i + 1, width: Math.max(1, slot - 2), y: y(share), height: y(0) - y(share), class: 'bar'});
    });
    this.picture.setAttribute('viewBox', `0 0 ${box.width} ${box.height}`);
    this.picture.replaceChildren(axes, ...bars);
  }
}

