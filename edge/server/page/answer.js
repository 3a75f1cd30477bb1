// What is asked of the server. XMLHttpRequest hands out what has come so far in every browser,
// also where fetch has no streams.

/** The connection is dead then: the server says every 10 s that it lives. */
const SILENCE_MS = 30000;

/** Reads server-sent events; is called with all that has come so far. */
export function reader(hear) {
  let read = 0;
  return (all) => {
    for (let end; (end = all.indexOf("\n\n", read)) >= 0; read = end + 2) {
      const fields = {};
      for (const line of all.slice(read, end).split("\n")) {
        const colon = line.indexOf(": ");
        fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (fields.data) hear(fields.event, parsed(fields.data));
    }
  };
}

function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch (_) {
    return {};
  }
}

/**
 * Ask for an answer: `hear(kind, facts)` is told of lucie.queue, lucie.progress, lucie.notice,
 * text, and at last of done or error. Returns what stops it.
 */
export function ask(messages, lang, hear) {
  const http = new XMLHttpRequest();
  let ended = false;
  let alarm;
  const end = (kind, facts) => {
    if (!ended) hear(kind, facts);
    ended = true;
    clearTimeout(alarm);
  };
  const failed = ({ error = {}, lucie = {} }) =>
    end("error", { code: lucie.code, message: error.message, status: http.status });
  const lost = () => end("error", { code: "lost" });
  const read = reader((event, content) => {
    if (event) return ended || hear(event, content);
    if (content.error) return failed(content);
    const { delta = {}, finish_reason: reason } = (content.choices || [{}])[0] || {};
    if (delta.content && !ended) hear("text", delta.content);
    if (reason) end("done", { reason, timings: content.timings, ...content.lucie });
  });
  const wait = () => {
    clearTimeout(alarm);
    if (!ended) alarm = setTimeout(() => (lost(), http.abort()), SILENCE_MS);
  };
  http.open("POST", "v1/chat/completions");
  http.setRequestHeader("Content-Type", "application/json");
  http.setRequestHeader("Accept-Language", lang);
  http.onprogress = () => {
    wait();
    if (http.status === 200) read(http.responseText);
  };
  http.onload = () => {
    if (http.status === 200) read(http.responseText);
    else failed(parsed(http.responseText));
    lost(); // heard where the stream ended before the answer did
  };
  http.onerror = lost;
  wait();
  http.send(JSON.stringify({ messages, stream: true, lucie: { events: true } }));
  return () => {
    ended = true;
    clearTimeout(alarm);
    http.abort();
  };
}

/** The JSON object at `path`; an empty one where there is none to be had. */
export function get(path, lang) {
  return new Promise((settle) => {
    const http = new XMLHttpRequest();
    http.open("GET", path);
    http.setRequestHeader("Accept-Language", lang);
    http.timeout = 10000;
    http.onloadend = () => settle(parsed(http.responseText));
    http.send();
  });
}
