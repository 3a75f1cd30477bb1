// The page: as the terminal's chat, it always tells what it waits for, and keeps what has come.

import { ask, get } from "./answer.js";
import { Conversation } from "./conversation.js";
import { show } from "./markdown.js";

const DRAW_MS = 100;
const SAVE_MS = 2000;
/** Characters: more than a window holds, and less than a request may have. */
const MOST_SENT = 200000;

const at = (id) => document.getElementById(id);
const page = document.documentElement;
const { lang } = page;
const texts = JSON.parse(at("texts").textContent);
const [message, turns] = [at("message"), at("turns")];
const talk = new Conversation(storage());
let answering = null; // the Entry of the answer in progress
let watching = null;

function storage() {
  try {
    return localStorage;
  } catch (_) {
    return null; // forbidden by the browser's settings
  }
}

/** A text with its facts; numbers as the language writes them. */
function say(code, facts = {}) {
  return texts[code].replace(/\{(\w+)\}/g, (_, name) => facts[name].toLocaleString(lang));
}

function element(tag, kind = "", text = "") {
  const made = document.createElement(tag);
  made.className = kind;
  made.textContent = text;
  return made;
}

/** Change something; a reader at the end stays there. */
function changing(change) {
  const atEnd = innerHeight + pageYOffset >= page.scrollHeight - 60;
  change();
  if (atEnd) toEnd();
}

const toEnd = () => scrollTo(0, page.scrollHeight);

function state(text, mood = "busy") {
  if (at("state").textContent !== text) at("state").textContent = text;
  at("mark").className = mood;
}

function figures({ used, size }, { predicted_n, predicted_ms }) {
  const speed = Math.round((10000 * predicted_n) / predicted_ms) / 10;
  const parts = [say("context", { used, window: size }), speed > 0 ? say("speed", { speed }) : ""];
  at("figures").textContent = parts.filter(Boolean).join(" · ");
}

/** Read out by screen readers: an answer by the paragraph, not by the word. */
const speak = (text) => (at("spoken").textContent = text);

/** A turn on the page. */
class Entry {
  constructor(turn) {
    this.turn = turn;
    this.blocks = [];
    this.spoken = 0;
    this.stop = () => {};
    this.root = element("div", `turn ${turn.role}`);
    this.text = element("div", "text");
    this.doing = element("p", "remark");
    this.note = element("div", "note");
    this.root.append(element("span", "unseen", say(turn.role)), this.text, this.doing, this.note);
    this.draw();
    this.tell();
    changing(() => turns.append(this.root));
  }

  draw() {
    clearTimeout(this.drawing);
    this.drawing = null;
    if (this.turn.role === "user") this.text.textContent = this.turn.content;
    else changing(() => (this.blocks = show(this.text, this.turn.content, this.blocks)));
  }

  write(text) {
    this.turn.content += text;
    this.drawing = this.drawing || setTimeout(() => (this.draw(), this.speak(1)), DRAW_MS);
  }

  /** Read out the blocks that are new, but for those `left` that still grow. */
  speak(left) {
    const ready = [...this.text.children].slice(this.spoken, this.blocks.length - left);
    this.spoken += ready.length;
    if (ready.length) speak(ready.map((block) => block.textContent).join("\n"));
  }

  /** What is waited for, and how far that is (0 to 1). */
  does(what, fraction) {
    changing(() => {
      this.doing.textContent = what;
      if (fraction === undefined) return;
      const bar = element("progress");
      bar.value = fraction;
      bar.title = what;
      this.doing.append(bar);
    });
  }

  /** The line below the text, and what can be done. */
  tell() {
    const { note, state: how } = this.turn;
    const broken = how === "failed" || how === "refused";
    this.note.textContent = "";
    if (note) this.note.append(element("p", broken ? "error" : "remark", note));
    if (how !== "stopped" && how !== "failed") return;
    const button = element("button", "again", say("again"));
    button.onclick = again;
    this.note.append(button);
  }
}

function showAll() {
  turns.textContent = "";
  for (const turn of talk.turns) {
    if (turn.state === "writing") Object.assign(turn, { state: "failed", note: say("interrupted") });
    forgetButtons();
    new Entry(turn);
  }
  toEnd();
}

/** Only the last answer can be asked for again. */
const forgetButtons = () => turns.querySelectorAll(".again").forEach((button) => button.remove());

const keep = () => (at("not-kept").hidden = talk.save());

function begin() {
  forgetButtons();
  answering = new Entry(talk.add("assistant", "", "writing"));
  answering.saving = setInterval(keep, SAVE_MS);
  keep();
  speak("");
  drawButton();
  toEnd();
  request();
}

function drawButton() {
  at("send").textContent = say(answering ? "stop" : "send");
  at("send").className = answering ? "stop" : "";
}

function request() {
  const entry = answering;
  entry.does(say("thinking"));
  state(say("waiting"));
  entry.stop = ask(talk.toSend(), lang, (kind, facts) => {
    if (entry === answering && hear[kind]) hear[kind](facts);
  });
}

const hear = {
  "lucie.queue": (facts) => answering.does(say("queue", facts)),
  "lucie.progress": ({ done, total }) =>
    answering.does(say(done < total ? "reading" : "thinking", { done, total }), done / total),
  "lucie.notice": ({ message: told }) => answering.root.insertBefore(element("p", "remark", told), answering.text),
  text(text) {
    if (!answering.turn.content) {
      answering.does("");
      state(say("writing"));
    }
    answering.write(text);
  },
  done({ reason, timings, context }) {
    figures(context, timings);
    const why = answering.turn.content ? reason : "empty";
    end("complete", why === "stop" ? "" : say(why), say("complete"));
  },
  error({ code, message: told, status }) {
    const { turn } = answering;
    if (code === "server.loading") return watch().then(() => answering && answering.turn === turn && request());
    if (code === "lost") {
      end("failed", say(turn.content ? "lost" : "unreachable"));
      return watch();
    }
    const refused = status === 400 || status === 413;
    const why = told || say("not-understood", { status });
    end(refused ? "refused" : "failed", refused ? `${why} ${say("refused")}` : why);
    if (refused && !message.value) put(talk.turns[talk.turns.length - 2].content);
  },
};

/** The server hears of it as the connection closes; what there is stays. */
function stop() {
  if (!answering) return;
  answering.stop();
  end("stopped", say("stopped"));
}

function end(how, note, spoken = note) {
  const entry = answering;
  answering = null;
  clearInterval(entry.saving);
  Object.assign(entry.turn, { state: how, note });
  entry.does("");
  entry.draw();
  speak("");
  entry.speak(0);
  speak(`${at("spoken").textContent}\n${spoken}`);
  changing(() => entry.tell());
  keep();
  drawButton();
  state(say("ready"), "ready");
}

function again() {
  if (answering) return;
  talk.turns.pop();
  turns.lastChild.remove();
  begin();
  message.focus();
}

/** Ask until the model is there, and tell of it. */
const watch = () => (watching = watching || ready());

async function ready() {
  for (;;) {
    const now = await get("health", lang);
    const percent = Math.round(100 * now.progress);
    if (now.status === "ok") {
      at("model").textContent = now.model;
      break;
    }
    if (now.status === "loading") {
      state(say("loading", { percent }));
      if (answering) answering.does(say("next", { percent }), now.progress);
    } else state(now.error ? now.error.message : say("unreachable"), "fault");
    await new Promise((go) => setTimeout(go, 2000));
  }
  watching = null;
  if (!answering) state(say("ready"), "ready");
}

async function tellAbout() {
  const { facts, error = {} } = await get("about", lang);
  at("facts").textContent = "";
  for (const { label, value } of facts || [{ label: "", value: error.message || say("unreachable") }])
    at("facts").append(element("dt", "", label), element("dd", "", value));
}

function submit() {
  const text = message.value.trim();
  if (!text) return;
  if (answering) return state(say("busy"));
  if (text.length > MOST_SENT) return state(say("too-long", { count: text.length, most: MOST_SENT }), "fault");
  put("");
  new Entry(talk.add("user", text, "complete"));
  begin();
}

function put(text) {
  message.value = text;
  fit();
}

/** As high as its text; the style sheet bounds it. */
function fit() {
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight + 2}px`;
}

function confirming(asked) {
  at("delete").hidden = !asked;
  (asked ? at("delete-no") : message).focus();
}

function renew() {
  stop();
  talk.turns = [];
  keep();
  showAll();
  at("figures").textContent = "";
  speak("");
  confirming(false);
}

/** Show one of two views; the browser's own way back leads back. */
function turnTo() {
  const isAbout = location.hash === "#about";
  at("about").hidden = !isAbout;
  at("talk").hidden = at("composer").hidden = isAbout;
  if (isAbout) tellAbout();
  else toEnd();
  at(isAbout ? "about" : "message").focus();
}

const on = (target, event, what) => target.addEventListener(event, what);

on(at("composer"), "submit", (event) => {
  event.preventDefault();
  if (answering) stop();
  else submit();
});
on(message, "keydown", (event) => {
  // While an input method is at work, Enter takes what it offers.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
});
on(message, "input", fit);
on(document, "keydown", (event) => {
  if (event.key !== "Escape") return;
  if (location.hash) location.hash = "";
  else if (!at("delete").hidden) confirming(false);
  else stop();
});
at("new").onclick = () => {
  location.hash = "";
  confirming(talk.turns.length > 0);
};
at("delete-yes").onclick = renew;
at("delete-no").onclick = () => confirming(false);
at("back").onclick = () => (location.hash = "");
on(window, "hashchange", turnTo);
on(window, "pagehide", keep);
// The same conversation in another tab.
on(window, "storage", () => answering || (talk.load(), showAll()));

at("needs").remove();
talk.load();
showAll();
keep();
turnTo();
watch();
