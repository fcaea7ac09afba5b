// Colours code: keywords, texts, numbers and comments, by the rough shape of a language. It reads
// from left to right once, and never fails: what it does not know stays plain.

import { element } from "./dom.js";

const words = (text) => new Set(text.split(" "));

const C_LIKE = words(
  "abstract as async auto await bool boolean break byte case catch char class const constexpr continue default delete do double else enum " +
    "export extends extern false final finally float fn for foreach friend from func function go goto if impl implements import in inline " +
    "instanceof int interface internal let long loop match mod move mut namespace new nil noexcept null nullptr of operator override package " +
    "private protected pub public readonly ref return self short signed sizeof static string struct super switch template this throw throws " +
    "trait true try type typedef typename typeof union unsafe unsigned use using var virtual void volatile where while with yield",
);
const PYTHON = words(
  "and as assert async await break case class continue def del elif else except False finally for from global if import in is lambda match " +
    "None nonlocal not or pass raise return self True try while with yield",
);
const SHELL = words(
  "alias begin break case cd do done echo elif else end esac exit export false fi for function if in let local module require return set " +
    "shift then true unless unset until when while",
);
const SQL = words(
  "add all alter and as asc between by case check column commit constraint create cross default delete desc distinct drop else end exists " +
    "foreign from full group having if in index inner insert integer into is join key left like limit not null offset on or order outer " +
    "primary references right rollback select set table text then union unique update values varchar view when where with",
);
const DATA = words("true false null yes no on off");

const SLASHES = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/y;
const HASHES = /#[^\n]*/y;
const DASHES = /--[^\n]*|\/\*[^]*?(?:\*\/|$)/y;
const TEXTS = /"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?|`(?:\\[^]|[^`\\])*`?/y;
const LONG_TEXTS = /[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?)/y;
const PLAIN_TEXTS = /"(?:\\[^]|[^"\\\n])*"?|'[^'\n]*'?/y;
const NUMBER = /\b(?:0[xXbBoO][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)\b/y;
const WORD = /[A-Za-z_$][\w$]*/y;
const OTHER = /[^\w$"'`#/-]+|[^]/y;

const LANGUAGES = [
  ["js javascript ts typescript jsx tsx c cc cpp c++ h hpp cs csharp java kotlin swift go rust rs scala dart php zig css scss", { keywords: C_LIKE, comment: SLASHES, text: TEXTS }],
  ["py python python3 gdscript starlark", { keywords: PYTHON, comment: HASHES, text: LONG_TEXTS }],
  ["sh bash zsh shell console fish ruby rb perl r make makefile dockerfile elixir", { keywords: SHELL, comment: HASHES, text: TEXTS }],
  ["sql lua haskell hs", { keywords: SQL, comment: DASHES, text: PLAIN_TEXTS, anyCase: true }],
  ["json jsonc yaml yml toml ini", { keywords: DATA, comment: HASHES, text: PLAIN_TEXTS }],
];

const BY_NAME = new Map(LANGUAGES.flatMap(([names, rules]) => names.split(" ").map((name) => [name, rules])));

/** Nodes that show a text in a language; "" and unknown ones are plain. */
export function highlight(text, language) {
  const rules = BY_NAME.get(language.toLowerCase());
  if (!rules) return [document.createTextNode(text)];
  const nodes = [];
  let plain = "";
  const put = (kind, part) => {
    if (!kind) {
      plain += part;
      return;
    }
    if (plain) nodes.push(document.createTextNode(plain));
    plain = "";
    nodes.push(element("span", { class: kind }, part));
  };
  for (let at = 0; at < text.length; ) {
    const read = (pattern) => {
      pattern.lastIndex = at;
      return pattern.exec(text)?.[0];
    };
    let part;
    if ((part = read(rules.comment))) put("comment", part);
    else if ((part = read(rules.text))) put("string", part);
    else if ((part = read(WORD))) put(rules.keywords.has(rules.anyCase ? part.toLowerCase() : part) ? "keyword" : "", part);
    else if ((part = read(NUMBER))) put("number", part);
    else put("", (part = read(OTHER)));
    at += part.length;
  }
  if (plain) nodes.push(document.createTextNode(plain));
  return nodes;
}
