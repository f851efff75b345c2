const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

// Three digits: "384 KiB", "1.19 MiB".
function formatBytes(bytes) {
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    ++unit;
  }
  return `${formatDigits(bytes)} ${UNITS[unit]}`;
}

function formatDigits(value) {
  const digits = value === 0 || value >= 100 || Number.isInteger(value) ? 0 : value >= 10 ? 1 : 2;
  return value.toFixed(digits);
}

// Without zeros at the end: "1.5 MiB". For axes; elsewhere numbers keep their width.
const trimmed = (text) => text.replace(/\.(\d*?)0+(?= |$)/, (_, digits) => digits ? `.${digits}` : '');

const formatCount = (value) => Math.round(value).toLocaleString('en');

function formatRate(value) {
  return value >= 10 || value === 0 ? formatCount(value) : value.toFixed(1);
}

// "210 µs", "21.3 ms", "1.24 s".
function formatSeconds(seconds) {
  if (seconds < 1e-3) return `${formatDigits(Math.round(seconds * 1e6))} µs`;
  if (seconds < 1) return `${formatDigits(seconds * 1e3)} ms`;
  return `${formatDigits(seconds)} s`;
}

// The two largest units: "3 d 4 h", "12 min 5 s".
function formatSpan(seconds) {
  const parts = [];
  let rest = Math.max(0, Math.floor(seconds));
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]) {
    if (rest >= size || (unit === 's' && parts.length === 0)) parts.push(`${Math.floor(rest / size)} ${unit}`);
    rest %= size;
  }
  return parts.slice(0, 2).join(' ');
}

const formatClock = (time) => new Date(time * 1000).toLocaleTimeString('en-GB');

