const card = byId('token-card');
const formatShare = (logprob) => {
  const percent = 100 * Math.exp(logprob);
  return percent >= 99.95 ? '100 %' : percent >= 0.1 ? `${percent.toFixed(1)} %` : '< 0.1 %';
};
const visible = (text) => text.replaceAll(' ', '␣').replaceAll('\n', '⏎').replaceAll('\t', '⇥');
// 0: as good as certain; 4: hardly likely.
const doubtOf = (logprob) => [0.9, 0.6, 0.3, 0.1].filter((least) => Math.exp(logprob) < least).length;

// Tokens of a chunk in one form, whether of a chat or a completion: {text, logprob, top}.
function tokensOf(logprobs, decoder) {
  if (!logprobs) return [];
  if (logprobs.content) {
    return logprobs.content.map((token) => ({
      text: decoder.decode(new Uint8Array(token.bytes), {stream: true}), logprob: token.logprob,
      top: token.top_logprobs.map((one) => ({text: one.token, logprob: one.logprob}))}));
  }
  return logprobs.tokens.map((text, i) => ({
    text, logprob: logprobs.token_logprobs[i],
    top: Object.entries(logprobs.top_logprobs[i] ?? {}).map(([other, logprob]) => ({text: other, logprob}))}));
}

// A reply on the page. Its text is the server's; a token whose text comes next in it becomes a part
// of its own that knows its probability. Markers and stripped spaces are tokens without such text.
class Reply {
  constructor(into) {
    this.thought = element('p', {class: 'thought'});
    this.body = element('div', {class: 'body', role: 'group', tabindex: 0, 'aria-label': 'Reply. Arrow keys read its tokens.'});
    this.meta = element('p', {class: 'note'});
    into.append(element('article', {class: 'reply'}, this.thought, this.body, this.meta));
    Object.assign(this, {text: '', rest: '', waiting: [], decoder: new TextDecoder(), at: null});
    this.body.addEventListener('pointerover', (event) => this.show(event.target));
    this.body.addEventListener('pointerleave', () => this.hide());
    this.body.addEventListener('blur', () => this.hide());
    this.body.addEventListener('keydown', (event) => this.onKey(event));
  }

  think(text) {
    this.thought.append(text);
  }

  add(text, logprobs) {
    this.text += text;
    this.rest += text;
    this.waiting.push(...tokensOf(logprobs, this.decoder));
    this.place();
    if (this.waiting.length === 0 && this.rest) this.flush();
  }

  place() {
    while (this.waiting.length > 0) {
      const token = this.waiting[0];
      const isFirst = this.rest === this.text;
      const text = isFirst && !this.rest.startsWith(token.text) ? token.text.trimStart() : token.text;
      if (text !== '' && this.rest.startsWith(text)) {
        this.body.append(this.part(text, token));
        this.rest = this.rest.slice(text.length);
      } else if (text !== '' && text.startsWith(this.rest)) {
        return;  // the rest of its text is still held back
      }
      this.waiting.shift();
    }
  }

  part(text, token) {
    const part = element('span', {class: `token doubt-${doubtOf(token.logprob)}`}, text);
    part.token = token;
    return part;
  }

  flush() {
    if (this.rest) this.body.append(this.rest);
    this.rest = '';
  }

  end(meta) {
    this.flush();
    this.meta.textContent = meta;
  }

  onKey(event) {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (event.key === 'Escape') this.hide();
    const parts = [...this.body.querySelectorAll('.token')];
    if (step === undefined || parts.length === 0) return;
    event.preventDefault();
    const at = this.at === null ? -1 : parts.indexOf(this.at);
    const part = parts[Math.min(parts.length - 1, Math.max(0, at + step))];
    this.show(part);
    const others = part.token.top.map((one) => `${one.text} ${formatShare(one.logprob)}`).join(', ');
    setText('announce', `${part.textContent}: ${formatShare(part.token.logprob)}. Most likely: ${others}`);
  }

  show(part) {
    if (!part.token) return;
    this.hide();
    this.at = part;
    part.classList.add('chosen');
    const rows = part.token.top.map((one) => {
      const bar = element('i');
      bar.style.width = `${100 * Math.exp(one.logprob)}%`;
      return element('li', one.text === part.token.text ? {class: 'drawn'} : {},
                     element('code', {}, visible(one.text)), element('span', {}, formatShare(one.logprob)), bar);
    });
    card.replaceChildren(element('p', {}, element('code', {}, visible(part.textContent)), ` ${formatShare(part.token.logprob)}`),
                         element('ol', {}, ...rows));
    card.hidden = false;
    const box = part.getBoundingClientRect();
    const size = card.getBoundingClientRect();
    const isBelow = box.bottom + size.height + 8 < innerHeight;
    card.style.left = `${Math.max(8, Math.min(box.left, innerWidth - size.width - 8))}px`;
    card.style.top = `${isBelow ? box.bottom + 6 : Math.max(8, box.top - size.height - 6)}px`;
  }

  hide() {
    this.at?.classList.remove('chosen');
    this.at = null;
    card.hidden = true;
  }
}

