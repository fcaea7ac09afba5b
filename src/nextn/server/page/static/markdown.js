// Markdown to elements, while it is being written. The text is a model's, so it is not trusted:
// HTML in it is text, links lead to http and https only, and nothing is fetched.
//
// parseMarkdown makes a tree of plain objects; MarkdownView turns it into elements and, when the
// text grows, replaces only the blocks that have changed.

import { copyButton } from "./copy.js";
import { element } from "./dom.js";
import { highlight } from "./highlight.js";
import { parseInline } from "./inline.js";

const MAX_DEPTH = 16; // of lists and quotes; deeper ones are text
const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)(.*)$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( +(?=\S)|$)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const CELL_RULE = /^[ \t]*:?-+:?[ \t]*$/;
const TASK = /^\[([ xX])\] +/;

/** Blocks of a text: { type, ... } with `children` (blocks), `content` (inline nodes) or `text`. */
export function parseMarkdown(text) {
  return parseBlocks(text.replaceAll("\r\n", "\n").split("\n").map(expandTabs), 0);
}

/** Shows a text that may grow. */
export class MarkdownView {
  constructor() {
    this.element = element("div", { class: "markdown" });
    this.text = null;
    this.shown = []; // one JSON text for each block, to see which have changed
  }

  update(text) {
    if (text === this.text) return;
    this.text = text;
    const blocks = parseMarkdown(text);
    const sources = blocks.map((block) => JSON.stringify(block));
    let same = 0;
    while (same < sources.length && sources[same] === this.shown[same]) same += 1;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    this.element.append(...blocks.slice(same).map(buildBlock));
    this.shown = sources;
  }
}

function expandTabs(line) {
  const lead = /^[ \t]*(?:(?:[-*+]|\d{1,9}[.)])\t+)?/.exec(line)[0];
  if (!lead.includes("\t")) return line;
  let spread = "";
  for (const character of lead) spread += character === "\t" ? " ".repeat(4 - (spread.length % 4)) : character;
  return spread + line.slice(lead.length);
}

const indentOf = (line) => line.length - line.trimStart().length;
const isBlank = (line) => line.trim() === "";

function parseBlocks(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const [block, next] = parseBlock(lines, at, depth);
    blocks.push(block);
    at = next;
  }
  return blocks;
}

/** The block that begins at a line, and the line after it. */
function parseBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return parseFence(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const text = heading[2].trim().replace(/(^|[ \t])#+$/, "");
    return [{ type: "heading", level: heading[1].length, content: parseInline(text.trim()) }, at + 1];
  }
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (indentOf(line) >= 4) return parseIndented(lines, at);
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return parseQuote(lines, at, depth);
    if (ITEM.test(line)) return parseList(lines, at, depth);
  }
  return parseTable(lines, at) ?? parseParagraph(lines, at, depth);
}

function parseFence(lines, at, [, indent, marks, info]) {
  const closing = new RegExp(`^ {0,3}${marks[0]}{${marks.length},}[ \\t]*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const inner = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indentOf(line), indent.length)));
  return [{ type: "code", language: info.trim().split(/\s/)[0], text: inner.join("\n") }, end + 1];
}

function parseIndented(lines, at) {
  let end = at;
  for (let n = at; n < lines.length && (isBlank(lines[n]) || indentOf(lines[n]) >= 4); n += 1) {
    if (!isBlank(lines[n])) end = n + 1;
  }
  return [{ type: "code", language: "", text: lines.slice(at, end).map((line) => line.slice(4)).join("\n") }, end];
}

function parseQuote(lines, at, depth) {
  const inner = [];
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || continues(lines, end, inner))) {
    inner.push(lines[end].replace(QUOTE, ""));
    end += 1;
  }
  return [{ type: "quote", children: parseBlocks(inner, depth + 1) }, end];
}

/** Whether a line carries on the paragraph that the lines before end with. */
function continues(lines, at, before) {
  const last = before.at(-1);
  return last !== undefined && !isBlank(last) && !FENCE.test(last) && !isBlank(lines[at]) && !interrupts(lines[at]);
}

function interrupts(line) {
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const item = ITEM.exec(line);
  return item !== null && item[3] !== "" && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1);
}

function parseList(lines, at, depth) {
  const first = ITEM.exec(lines[at]);
  const kind = first[2].at(-1); // the bullet, or what follows the number
  const list = { type: "list", start: /\d/.test(first[2]) ? parseInt(first[2], 10) : null, items: [] };
  let end = at;
  let loose = false;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || item[2].at(-1) !== kind || RULE.test(lines[end])) break;
    const spaces = item[3].length > 4 ? 1 : item[3].length || 1;
    const offset = item[1].length + item[2].length + spaces;
    const inner = [lines[end].slice(offset)];
    end += 1;
    while (end < lines.length) {
      const line = lines[end];
      if (isBlank(line)) {
        if (inner.length === 1 && isBlank(inner[0])) break; // an empty item
        inner.push("");
      } else if (indentOf(line) >= offset) {
        inner.push(line.slice(offset));
      } else if (!ITEM.test(line) && continues(lines, end, inner)) {
        inner.push(line.trimStart());
      } else {
        break;
      }
      end += 1;
    }
    let gap = false;
    while (inner.length > 1 && isBlank(inner.at(-1))) {
      inner.pop();
      gap = true;
    }
    const task = TASK.exec(inner[0]);
    if (task) inner[0] = inner[0].slice(task[0].length);
    const children = parseBlocks(inner, depth + 1);
    list.items.push({ done: task ? task[1] !== " " : null, children });
    const another = end < lines.length && ITEM.exec(lines[end])?.[2].at(-1) === kind;
    loose ||= (gap && another) || (children.filter((block) => block.type === "paragraph").length > 1);
    if (!another) break;
  }
  list.loose = loose;
  return [list, end];
}

function splitCells(line) {
  const cells = [""];
  let inCode = false;
  for (let at = 0; at < line.length; at += 1) {
    if (line[at] === "\\" && line[at + 1] === "|") {
      cells[cells.length - 1] += "|";
      at += 1;
    } else if (line[at] === "|" && !inCode) {
      cells.push("");
    } else {
      if (line[at] === "`") inCode = !inCode && line.indexOf("`", at + 1) > 0;
      cells[cells.length - 1] += line[at];
    }
  }
  if (isBlank(cells[0])) cells.shift();
  if (cells.length && isBlank(cells.at(-1))) cells.pop();
  return cells.map((cell) => cell.trim());
}

function parseTable(lines, at) {
  if (at + 1 >= lines.length || !lines[at].includes("|") || !lines[at + 1].includes("-")) return null;
  const head = splitCells(lines[at]);
  const rules = splitCells(lines[at + 1]);
  if (!rules.length || rules.length !== head.length || !rules.every((cell) => CELL_RULE.test(cell))) return null;
  const align = rules.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : ""));
  const rows = [];
  let end = at + 2;
  while (end < lines.length && !isBlank(lines[end]) && !interrupts(lines[end])) {
    const cells = splitCells(lines[end]);
    rows.push(head.map((_, n) => parseInline(cells[n] ?? "")));
    end += 1;
  }
  return [{ type: "table", align, head: head.map(parseInline), rows }, end];
}

function parseParagraph(lines, at, depth) {
  const inner = [lines[at].trimStart()];
  let end = at + 1;
  for (; end < lines.length && !isBlank(lines[end]); end += 1) {
    const underline = UNDERLINE.exec(lines[end]);
    if (underline) {
      const level = underline[1][0] === "=" ? 1 : 2;
      return [{ type: "heading", level, content: parseInline(inner.join("\n").trim()) }, end + 1];
    }
    if (depth < MAX_DEPTH ? interrupts(lines[end]) : FENCE.test(lines[end])) break;
    if (parseTable(lines, end)) break;
    inner.push(lines[end].trimStart());
  }
  return [{ type: "paragraph", content: parseInline(inner.join("\n").trimEnd()) }, end];
}

function buildInline(node) {
  if (typeof node === "string") return document.createTextNode(node);
  const attributes = { class: node.className };
  if (node.tag === "a") Object.assign(attributes, { href: node.href, target: "_blank", rel: "noopener noreferrer nofollow" });
  return element(node.tag, attributes, node.children.map(buildInline));
}

const inline = (nodes) => nodes.map(buildInline);

function buildBlock(block) {
  switch (block.type) {
    case "heading": return element(`h${block.level}`, {}, inline(block.content));
    case "rule": return element("hr");
    case "code": return buildCode(block);
    case "quote": return element("blockquote", {}, block.children.map(buildBlock));
    case "list": return buildList(block);
    case "table": return buildTable(block);
    default: return element("p", {}, inline(block.content));
  }
}

function buildList({ start, items, loose }) {
  const tag = start === null ? "ul" : "ol";
  const children = ({ done, children }) => [
    done === null ? null : element("input", { type: "checkbox", disabled: true, checked: done, "aria-label": done ? "done" : "to do" }),
    ...children.flatMap((block) => (!loose && block.type === "paragraph" ? inline(block.content) : [buildBlock(block)])),
  ];
  return element(
    tag,
    { start: start === null || start === 1 ? null : start },
    items.map((item) => element("li", {}, children(item))),
  );
}

function buildTable({ align, head, rows }) {
  const row = (tag, cells) => element("tr", {}, cells.map((cell, n) => element(tag, { class: align[n] || null }, inline(cell))));
  const table = element("table", {}, element("thead", {}, row("th", head)), element("tbody", {}, rows.map((cells) => row("td", cells))));
  // It scrolls by itself where it is too wide, also with the keys.
  return element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

function buildCode({ language, text }) {
  const code = element("code", {}, highlight(text, language));
  return element(
    "div",
    { class: "code" },
    element("div", { class: "code-head" }, element("span", {}, language || "text"), copyButton("Copy the code", () => text)),
    element("pre", { tabindex: "0", "aria-label": `Code${language ? `, ${language}` : ""}` }, code),
  );
}
