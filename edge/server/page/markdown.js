// Markdown to elements, as far as models write it (CommonMark in small). Nothing becomes HTML,
// and a link shows its address and leads nowhere. A library would be larger than this page.

const FENCE = /^ {0,3}(```+|~~~+)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ROW = /^ {0,3}\|/;
const ITEM = /^(\s*)([-*+•]|\d{1,9}[.)])\s+(.*)/;
// Bounded repetitions: hostile text costs its length, not its square.
const INLINE = new RegExp(
  [
    /(`{1,3})([^`](?:[^]{0,500}?[^`])?)\1(?!`)/,
    /\*\*(?=\S)([^]{0,999}?\S)\*\*(?!\*)/,
    /\*(?=[^\s*])((?:[^*]|\*\*){0,999}?[^\s*])\*(?!\*)/,
    /\b__(?=\S)([^]{0,999}?\S)__\b/,
    /\b_(?=[^\s_])([^_]{0,999}?)_\b/,
    /\[([^\]\n]{0,300})\]\(([^)\s]{1,500})\)/,
    /\\([!-/:-@[-`{-~])/,
  ]
    .map((each) => each.source)
    .join("|"),
);
const DEEPEST = 6;
// What is obeyed instead of shown: controls, direction overrides, invisible tags.
const OBEYED =
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g;

const visible = (text) => text.replace(/\r\n?|[\u2028\u2029]/g, "\n").replace(OBEYED, "\ufffd");

/** The blocks of a text: `{tag, source, …}`; equal sources are equal blocks. */
export function blocks(text) {
  const lines = visible(text).split("\n");
  const found = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at].trim()) {
      const block = blockAt(lines, at);
      block.source = lines.slice(at, block.end).join("\n");
      at = block.end;
      found.push(block);
    } else at += 1;
  }
  return found;
}

function blockAt(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  const heading = HEADING.exec(line);
  const part = (from, to) => lines.slice(from, to).join("\n");
  if (fence) {
    const end = run(lines, at + 1, (next) => !(next.trim().startsWith(fence[1]) && FENCE.test(next)));
    return { tag: "pre", text: part(at + 1, end), end: Math.min(end + 1, lines.length) };
  }
  // The page has h1 and h2 of its own.
  if (heading) return { tag: `h${Math.min(6, heading[1].length + 2)}`, text: heading[2], end: at + 1 };
  if (RULE.test(line)) return { tag: "hr", text: "", end: at + 1 };
  if (ITEM.test(line)) return list(lines, at);
  for (const [start, tag] of [[QUOTE, "blockquote"], [ROW, "pre"]]) {
    if (start.test(line)) {
      const end = run(lines, at, (next) => start.test(next));
      const bare = lines.slice(at, end).map((each) => each.replace(QUOTE, ""));
      return { tag, text: bare.join("\n"), end };
    }
  }
  const end = run(lines, at + 1, (next) => next.trim() && !begins(next));
  return { tag: "p", text: part(at, end), end };
}

const begins = (line) => [FENCE, HEADING, RULE, QUOTE, ROW, ITEM].some((start) => start.test(line));

const indentation = (line) => line.search(/\S|$/);

/** The first line from `at` on of which something is not so. */
function run(lines, at, isSo) {
  while (at < lines.length && isSo(lines[at])) at += 1;
  return at;
}

/** Items at the same indentation; what is indented further belongs to one of them. */
function list(lines, at) {
  const [, margin, marker] = ITEM.exec(lines[at]);
  const tag = /\d/.test(marker) ? "ol" : "ul";
  const items = [];
  let column = 0; // where the text of an item begins
  let end = at;
  for (; end < lines.length; end += 1) {
    const line = lines[end];
    const found = ITEM.exec(line);
    const indent = indentation(line);
    const inside = indent > margin.length + 1;
    if (found && !inside) {
      if (/\d/.test(found[2]) !== (tag === "ol") || RULE.test(line)) break;
      column = line.length - found[3].length;
      items.push(found[3]);
    } else if (!line.trim()) {
      const next = lines[run(lines, end, (each) => !each.trim())];
      if (!next || !(ITEM.test(next) || indentation(next) > margin.length + 1)) break;
      items[items.length - 1] += "\n";
    } else if (inside || (!begins(line) && lines[end - 1].trim()))
      items[items.length - 1] += `\n${line.slice(Math.min(indent, column))}`;
    else break;
  }
  return { tag, items, start: parseInt(marker, 10), end };
}

/** Pieces of a text: strings, and `[tag, pieces]` for what is marked. */
export function inline(text, depth = 0) {
  const parts = [];
  for (let rest = text; rest; ) {
    const found = depth < DEEPEST && INLINE.exec(rest);
    if (!found) return parts.concat(rest);
    const [all, , code, bold, em, bold2, em2, label, url, escaped] = found;
    if (found.index) parts.push(rest.slice(0, found.index));
    rest = rest.slice(found.index + all.length);
    if (code) parts.push(["code", [code]]);
    else if (bold || bold2) parts.push(["strong", inline(bold || bold2, depth + 1)]);
    else if (em || em2) parts.push(["em", inline(em || em2, depth + 1)]);
    else parts.push(escaped || (label ? `${label} (${url})` : url));
  }
  return parts;
}

function element(tag, children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

const marked = (text) => inline(text).map(node);

const node = (part) => (typeof part === "string" ? part : element(part[0], part[1].map(node)));

function draw({ tag, text, items, start }, depth) {
  if (tag === "pre") {
    const made = element(tag, [element("code", [text])]);
    made.tabIndex = 0; // else no key scrolls it
    return made;
  }
  if (items) {
    const made = element(tag, items.map((item) => element("li", inner(item, depth))));
    if (tag === "ol") made.start = start;
    return made;
  }
  const made = element(tag, tag === "blockquote" ? inner(text, depth) : marked(text));
  made.dir = "auto";
  return made;
}

/** What stands in an item or a quote; its first paragraph is not made one. */
function inner(text, depth) {
  if (depth >= DEEPEST) return [text];
  return blocks(text).reduce(
    (all, each, n) => all.concat(n === 0 && each.tag === "p" ? marked(each.text) : draw(each, depth + 1)),
    [],
  );
}

/** Have `into`, which shows the blocks `shown`, show `text`; returns its blocks. */
export function show(into, text, shown) {
  const now = blocks(text);
  let same = 0;
  while (shown[same] && now[same] && shown[same].source === now[same].source) same += 1;
  while (into.childNodes.length > same) into.removeChild(into.lastChild);
  into.append(...now.slice(same).map((block) => draw(block, 0)));
  return now;
}
