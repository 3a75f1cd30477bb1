// A conversation, kept in this browser and nowhere else.

const KEY = "lucie.conversation";
/** Characters, as the page says; browsers have room for millions. */
const MOST_KEPT = 400000;
/** Bytes of all messages; the server takes a little more. */
const MOST_BYTES = 1000000;

/** `turns` are `{role: "user" | "assistant", content, state, note}`; `store` is localStorage. */
export class Conversation {
  constructor(store) {
    this.store = store;
    this.turns = [];
  }

  /** Take up what was kept, as far as it is a conversation. */
  load() {
    try {
      this.turns = JSON.parse(this.store.getItem(KEY) || "[]").filter(
        (turn) => /^(user|assistant)$/.test(turn.role) && typeof turn.content === "string",
      );
    } catch (_) {
      this.turns = []; // another's, or damaged
    }
  }

  /** Keep the last of it; returns whether this browser does. */
  save() {
    let first = this.turns.length;
    for (let size = 0; first && (size += this.turns[first - 1].content.length) <= MOST_KEPT; ) first -= 1;
    try {
      this.store.setItem(KEY, JSON.stringify(this.turns.slice(first)));
      return true;
    } catch (_) {
      return false; // full, or a window that keeps nothing
    }
  }

  add(role, content, state) {
    const turn = { role, content, state, note: "" };
    this.turns.push(turn);
    return turn;
  }

  /**
   * The messages for the model. What was refused would be refused again, and is left out; chat
   * templates want the roles in turn, so questions without an answer between them become one.
   */
  toSend() {
    const messages = [];
    this.turns.forEach(({ role, content, state }, n) => {
      const { state: answer } = this.turns[n + 1] || {};
      const before = messages[messages.length - 1];
      if (!content || state === "refused" || answer === "refused") return;
      if (before && before.role === role) before.content += `\n\n${content}`;
      else messages.push({ role, content });
    });
    const size = () => new Blob([JSON.stringify(messages)]).size;
    while (messages.length > 1 && (messages[0].role !== "user" || size() > MOST_BYTES)) messages.shift();
    return messages;
  }
}
