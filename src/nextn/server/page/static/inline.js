// Markdown inside a line: emphasis, code, links. Returns a tree of plain objects, never elements:
// a node is a string, or { tag, children, href?, className? }.
//
// Emphasis is found with the delimiter stack of the CommonMark specification, whose bounds keep the
// time linear on hostile input.

const PUNCTUATION = /[!-/:-@[-`{-~\p{P}\p{S}]/u;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const SPECIAL = /[\\`*_~[\]!<&\n$h]/g;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", "#39": "'", "#x27": "'" };
const ENTITY = /&(#?\w{1,6});/y;
const BARE_LINK = /https?:\/\/[^\s<>"`]+/y;
const ANGLE_LINK = /<(https?:\/\/[^\s<>]*)>/y;
const DESTINATION = /\(\s*(?:<([^<>\n]*)>|([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*))(?:\s+(?:"[^"\n]*"|'[^'\n]*'))?\s*\)/y;
const MAX_NESTING = 32; // elements inside elements; deeper ones lose their markup
const MATHS = { "\\(": "\\)", "\\[": "\\]", $$: "$$" };

/** The address if it may be followed, else null: only http and https, and only complete ones. */
export function safeAddress(text) {
  try {
    const address = new URL(text);
    return address.protocol === "http:" || address.protocol === "https:" ? address.href : null;
  } catch {
    return null;
  }
}

/** Parse the text of a paragraph, heading or cell. */
export function parseInline(text) {
  return new Parser(text).parse();
}

class Parser {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.head = { next: null, previous: null }; // a linked list, since delimiters are taken out of it
    this.tail = this.head;
    this.lastDelimiter = null;
    this.brackets = [];
    this.unclosed = new Set(); // lengths of runs of backticks, and ends of formulas, that do not come
  }

  parse() {
    const { text } = this;
    while (this.at < text.length) {
      SPECIAL.lastIndex = this.at;
      const found = SPECIAL.exec(text);
      const next = found ? found.index : text.length;
      if (next > this.at) this.push(text.slice(this.at, next));
      this.at = next;
      if (found && !this.special(found[0])) {
        this.push(text[this.at]);
        this.at += 1;
      }
    }
    this.emphasise(null);
    return collect(this.head.next, null);
  }

  /** Handle what begins here; false if it is plain text after all. */
  special(character) {
    switch (character) {
      case "\\": return this.formula(this.text.slice(this.at, this.at + 2)) || this.escape();
      case "$": return this.formula(this.text.slice(this.at, this.at + 2));
      case "`": return this.code();
      case "*": case "_": case "~": return this.delimiter(character);
      case "!": return this.text[this.at + 1] === "[" && this.openBracket(2);
      case "[": return this.openBracket(1);
      case "]": return this.closeBracket();
      case "<": return this.link(ANGLE_LINK, 1);
      case "h": return this.bareLink();
      case "&": return this.entity();
      default: return this.lineEnd();
    }
  }

  push(value) {
    const node = { value, previous: this.tail, next: null };
    this.tail.next = node;
    this.tail = node;
    return node;
  }

  escape() {
    const next = this.text[this.at + 1] ?? "";
    if (next === "\n") this.push({ tag: "br", children: [] });
    else if (ESCAPABLE.test(next)) this.push(next);
    else return false;
    this.at += 2;
    return true;
  }

  lineEnd() {
    const hard = this.text.endsWith("  ", this.at);
    this.push(hard ? { tag: "br", children: [] } : "\n");
    this.at += 1;
    return true;
  }

  entity() {
    ENTITY.lastIndex = this.at;
    const found = ENTITY.exec(this.text);
    if (!found || !Object.hasOwn(ENTITIES, found[1])) return false;
    this.push(ENTITIES[found[1]]);
    this.at = ENTITY.lastIndex;
    return true;
  }

  code() {
    const { text } = this;
    let end = this.at;
    while (text[end] === "`") end += 1;
    const run = text.slice(this.at, end);
    let close = this.unclosed.has(run.length) ? -1 : text.indexOf(run, end);
    while (close >= 0 && (text[close + run.length] === "`" || text[close - 1] === "`")) {
      let after = close;
      while (text[after] === "`") after += 1;
      close = text.indexOf(run, after);
    }
    if (close < 0) {
      this.unclosed.add(run.length);
      this.push(run);
      this.at = end;
      return true;
    }
    let inner = text.slice(end, close).replaceAll("\n", " ");
    if (inner.startsWith(" ") && inner.endsWith(" ") && inner.trim()) inner = inner.slice(1, -1);
    this.push({ tag: "code", children: [inner] });
    this.at = close + run.length;
    return true;
  }

  /** Formulas are shown as they were written; their stars and underscores are no emphasis. */
  formula(open) {
    if (!Object.hasOwn(MATHS, open) || this.unclosed.has(open)) return false;
    const close = this.text.indexOf(MATHS[open], this.at + 2);
    if (close < 0) {
      this.unclosed.add(open);
      return false;
    }
    this.push({ tag: "code", className: "formula", children: [this.text.slice(this.at + 2, close).trim()] });
    this.at = close + 2;
    return true;
  }

  link(pattern, group) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    const href = found && safeAddress(found[group]);
    if (!href) return false;
    this.push({ tag: "a", href, children: [found[group]] });
    this.at = pattern.lastIndex;
    return true;
  }

  bareLink() {
    if (this.at && /[\w/]/.test(this.text[this.at - 1])) return false;
    BARE_LINK.lastIndex = this.at;
    let shown = BARE_LINK.exec(this.text)?.[0];
    if (!shown) return false;
    shown = shown.replace(/[*_~\]]{1,3}[.,;:!?'")\]]{0,8}$|[.,;:!?'"\]]{1,8}$/, "");
    if (shown.endsWith(")") && !shown.includes("(")) shown = shown.slice(0, -1);
    const href = safeAddress(shown);
    if (!href) return false;
    this.push({ tag: "a", href, children: [shown] });
    this.at += shown.length;
    return true;
  }

  openBracket(length) {
    const node = this.push(this.text.slice(this.at, this.at + length));
    this.brackets.push({ node, image: length === 2, delimiter: this.lastDelimiter, live: true });
    this.at += length;
    return true;
  }

  closeBracket() {
    const bracket = this.brackets.pop();
    if (!bracket?.live) return false;
    DESTINATION.lastIndex = this.at + 1;
    const found = DESTINATION.exec(this.text);
    if (!found) return false;
    this.emphasise(bracket.delimiter);
    const href = safeAddress(found[1] ?? found[2]);
    const children = collect(bracket.node.next, null);
    // A picture would be fetched from elsewhere; it becomes a link. So does nothing that is unsafe.
    if (!children.length) children.push(href ?? "");
    const value = nested(href ? { tag: "a", href, children } : { tag: "span", children });
    this.tail = bracket.node.previous;
    this.tail.next = null;
    this.push(value);
    // A link holds no other link.
    for (let n = this.brackets.length - 1; n >= 0 && !bracket.image && this.brackets[n].live; n -= 1) {
      if (!this.brackets[n].image) this.brackets[n].live = false;
    }
    this.at = DESTINATION.lastIndex;
    return true;
  }

  delimiter(character) {
    const { text } = this;
    let end = this.at;
    while (text[end] === character) end += 1;
    const count = end - this.at;
    const before = text[this.at - 1] ?? " ";
    const after = text[end] ?? " ";
    const left = !/\s/.test(after) && (!PUNCTUATION.test(after) || /\s/.test(before) || PUNCTUATION.test(before));
    const right = !/\s/.test(before) && (!PUNCTUATION.test(before) || /\s/.test(after) || PUNCTUATION.test(after));
    const inWord = character === "_";
    const node = this.push(text.slice(this.at, end));
    this.at = end;
    if (character === "~" && count !== 2) return true;
    const delimiter = {
      node,
      character,
      count,
      original: count,
      opens: left && (!inWord || !right || PUNCTUATION.test(before)),
      closes: right && (!inWord || !left || PUNCTUATION.test(after)),
      previous: this.lastDelimiter,
      next: null,
    };
    if (this.lastDelimiter) this.lastDelimiter.next = delimiter;
    this.lastDelimiter = delimiter;
    return true;
  }

  /** Match the delimiters above `bottom`, and take all of them from the stack. */
  emphasise(bottom) {
    const bounds = new Map();
    let closer = this.lastDelimiter;
    while (closer && closer.previous !== bottom) closer = closer.previous;
    while (closer) {
      if (!closer.closes) {
        closer = closer.next;
        continue;
      }
      const key = `${closer.character}${closer.opens}${closer.original % 3}`;
      let opener = closer.previous;
      while (opener && opener !== bottom && opener !== bounds.get(key) && !matches(opener, closer)) opener = opener.previous;
      if (!opener || opener === bottom || opener === bounds.get(key)) {
        bounds.set(key, closer.previous);
        const next = closer.next;
        if (!closer.opens) this.remove(closer);
        closer = next;
        continue;
      }
      closer = this.wrap(opener, closer);
    }
    while (this.lastDelimiter && this.lastDelimiter !== bottom) this.remove(this.lastDelimiter);
  }

  /** Put what is between two delimiters into an element; returns the next closer. */
  wrap(opener, closer) {
    const used = closer.character === "~" || (opener.count >= 2 && closer.count >= 2) ? 2 : 1;
    const tag = closer.character === "~" ? "s" : used === 2 ? "strong" : "em";
    while (opener.next !== closer) this.remove(opener.next);
    const children = collect(opener.node.next, closer.node);
    const node = { value: nested({ tag, children }), previous: opener.node, next: closer.node };
    opener.node.next = node;
    closer.node.previous = node;
    for (const each of [opener, closer]) {
      each.count -= used;
      each.node.value = each.character.repeat(each.count);
    }
    const next = closer.count ? closer : closer.next;
    if (!opener.count) this.remove(opener);
    if (!closer.count) this.remove(closer);
    return next;
  }

  remove(delimiter) {
    if (delimiter.previous) delimiter.previous.next = delimiter.next;
    if (delimiter.next) delimiter.next.previous = delimiter.previous;
    else this.lastDelimiter = delimiter.previous;
  }
}

function matches(opener, closer) {
  if (!opener.opens || opener.character !== closer.character) return false;
  const both = closer.opens || opener.closes;
  return !both || (opener.original + closer.original) % 3 !== 0 || (opener.original % 3 === 0 && closer.original % 3 === 0);
}

/** The values of a part of the list, neighbouring texts joined. */
function collect(from, end) {
  const values = [];
  for (let node = from; node && node !== end; node = node.next) {
    const last = values.length - 1;
    if (node.value === "") continue;
    if (typeof node.value === "string" && typeof values[last] === "string") values[last] += node.value;
    else values.push(node.value);
  }
  return values;
}

/** Bound how deep elements lie in each other, for whoever walks through the tree. */
function nested(value) {
  value.depth = 1 + Math.max(0, ...value.children.slice(0, 1000).map((child) => child.depth ?? 0));
  return value.depth > MAX_NESTING ? textOf(value) : value;
}

function textOf(node) {
  return typeof node === "string" ? node : node.children.map(textOf).join("");
}
