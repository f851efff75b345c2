// Who holds which part of the cache.
function percentBar(share, ...children) {
  const bar = element('i', {}, ...children);
  bar.style.width = `${100 * share}%`;
  return bar;
}

// `most`: bytes of the longest bar, with all heads.
function sequenceRow(sequence, most) {
  const share = (part, whole) => whole > 0 ? part / whole : 0;
  const name = sequence.completion > 0 ? `${sequence.id} (${sequence.completion + 1})` : sequence.id;
  const bar = percentBar(share(sequence.bytes_uncompressed, most), percentBar(share(sequence.bytes, sequence.bytes_uncompressed)));
  const cells = [
    element('td', {class: 'id', title: name}, name.replace(/^(chatcmpl-|cmpl-|resp_)/, '')),
    element('td', {}, sequence.running ? 'running' : 'waiting'),
    element('td', {class: 'number'}, formatCount(sequence.prompt_tokens)),
    element('td', {class: 'number'}, formatCount(sequence.output_tokens)),
    element('td', {class: 'number'}, formatBytes(sequence.bytes)),
    element('td', {class: 'number wide'}, formatBytes(sequence.bytes_uncompressed)),
    element('td', {class: 'bar wide', 'aria-hidden': 'true'}, bar),
  ];
  return element('tr', sequence.running ? {} : {class: 'waits'}, ...cells);
}

function showSequences(sequences, load) {
  const most = Math.max(0, ...sequences.map((s) => s.bytes_uncompressed));
  byId('sequence-rows').replaceChildren(...sequences.map((s) => sequenceRow(s, most)));
  byId('sequences').hidden = sequences.length === 0;
  const inFlight = load.running + load.waiting;
  byId('sequences-none').hidden = sequences.length > 0 || inFlight > 0;
  const left = inFlight - sequences.length;
  setText('sequences-more', sequences.length > 0 && left > 0 ? `and ${formatCount(left)} more` : '');
}

