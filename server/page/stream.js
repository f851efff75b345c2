// A refusal or a failure, as the server words it.
class Refusal extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function refusalOf(response) {
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // A proxy answered, or nobody: the status line is all there is.
  }
  const wait = response.headers.get('Retry-After');
  return new Refusal(wait ? `${message} Try again in ${wait} s.` : message, response.status);
}

// The events of a streamed answer.
async function* streamEvents(path, body, signal) {
  const headers = {...authorization(), 'Content-Type': 'application/json'};
  const response = await fetch(path, {method: 'POST', headers, body: JSON.stringify(body), signal});
  if (!response.ok) throw await refusalOf(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) throw new Refusal('The connection ended before the reply did.');
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, '');
      if (data === '[DONE]') return;
      const json = JSON.parse(data);
      if (json.error) throw new Refusal(json.error.message);
      yield json;
    }
  }
}

