// Ties the page together: which conversation is shown, who writes, and what the keys do.

import { newAnswer, write } from "./answer.js";
import { listModels, requestOf } from "./api.js";
import { bindComposer, showBusy } from "./composer.js";
import { openSettings, openShortcuts, say, toast } from "./dialogs.js";
import { byId, element, iconButton } from "./dom.js";
import { AssistantMessage, UserMessage } from "./message.js";
import { fillPanel } from "./panel.js";
import * as store from "./store.js";

const SUGGESTIONS = [
  ["Write code", "A Python class Point with x and y, with add, sub, mul and repr methods."],
  ["Explain", "Why is the sky blue? Answer in three short paragraphs."],
  ["Make a table", "A table of the planets with diameter, day and year."],
  ["Summarise", "What is speculative decoding, in five bullet points?"],
];
const SAVE_EVERY = 1000; // milliseconds, while an answer is written
const SEEDS = 2 ** 32;

const settings = store.loadSettings();
let conversations = store.loadConversations();
let current = conversations[0] ?? store.newConversation();
let views = []; // one for each message of the current conversation
let selected = null; // the answer whose figures are shown; null for the last
const writers = new Map(); // by conversation: { controller, answer }

const wide = matchMedia("(min-width: 1181px)");
const prompt = byId("prompt");
const scroller = byId("scroller");

// Writing

async function send(text) {
  if (!text.trim() || writers.has(current.id)) return;
  if (!current.messages.length) current.title = titleOf(text);
  current.messages.push({ role: "user", content: text });
  await answer();
}

/** Write the answer to the last message of the current conversation. */
async function answer() {
  const conversation = current;
  const model = byId("model").value;
  const messages = conversation.messages.map(({ role, content }) => ({ role, content }));
  const request = requestOf(settings, model, messages);
  const message = { role: "assistant", ...newAnswer(model), plain: null };
  const runs = [[message, request]];
  if (settings.compare) {
    // Both write with the same seed; one after the other, or each would slow the other down.
    request.seed ??= Math.floor(Math.random() * SEEDS);
    if (request.mtp === "off") request.mtp = "auto";
    message.plain = newAnswer(model);
    runs.push([message.plain, { ...request, mtp: "off" }]);
  }
  conversation.messages.push(message);
  selected = null;
  const writer = { controller: new AbortController(), answer: message };
  writers.set(conversation.id, writer);
  keep(conversation);
  showConversation();
  listConversations();
  scrollToEnd();
  say("Writing.");
  if (document.activeElement === document.body) prompt.focus(); // the button that asked for it is gone
  for (const [each, body] of runs) {
    if (writer.controller.signal.aborted || message.error) break;
    writer.answer = each;
    await write(each, settings, body, writer.controller.signal, () => {
      if (writers.get(conversation.id) !== writer) return; // it was taken back, or deleted
      keepSoon(conversation);
      if (conversation === current) refreshSoon();
    });
  }
  if (writers.get(conversation.id) !== writer) return;
  writers.delete(conversation.id);
  keep(conversation);
  if (conversation === current) refresh();
  listConversations();
  say(message.error ?? (message.finish === "stopped" ? "Stopped." : "The answer is complete."));
}

function stop() {
  writers.get(current.id)?.controller.abort();
}

/** Take back a message and what follows it. */
function cutAt(message) {
  stop();
  writers.delete(current.id);
  current.messages.splice(current.messages.indexOf(message));
}

async function writeAgain() {
  const last = current.messages.at(-1);
  if (last?.role !== "assistant" || writers.has(current.id)) return;
  cutAt(last);
  await answer();
}

async function edit(message, text) {
  const first = current.messages.indexOf(message) === 0;
  cutAt(message);
  if (first) current.title = titleOf(text);
  prompt.focus();
  await send(text);
}

function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

// Keeping

let keptAt = 0;

function keepSoon(conversation) {
  if (performance.now() - keptAt > SAVE_EVERY) keep(conversation, false);
}

function keep(conversation, touch = true) {
  keptAt = performance.now();
  if (!conversation.messages.length) return;
  if (touch) conversation.updated = Date.now();
  if (!conversations.includes(conversation)) conversations.unshift(conversation);
  conversations.sort((a, b) => b.updated - a.updated);
  try {
    store.saveConversation(conversation);
  } catch (error) {
    showNotice(`The conversation cannot be kept: ${error.message}`);
  }
}

/** Stop writing into a conversation, and delete what is kept of it. */
function forget(conversation) {
  writers.get(conversation.id)?.controller.abort();
  writers.delete(conversation.id);
  store.deleteConversation(conversation.id);
}

/**
 * Read again what is kept. What is written stays as it is here, and so does what is shown, unless
 * another tab has changed it.
 * @param {string|null} key what has changed; null for something else, or everything
 */
function reload(key = null) {
  const isOurs = ({ id }) => writers.has(id) || (id === current.id && !store.isKeyOf(key, id));
  const ours = new Map([current, ...conversations].filter(isOurs).map((one) => [one.id, one]));
  conversations = store.loadConversations().map((one) => ours.get(one.id) ?? one);
  current = conversations.find(({ id }) => id === current.id) ?? current;
}

function remove(conversation) {
  forget(conversation);
  conversations = conversations.filter((other) => other !== conversation);
  if (conversation === current) open(store.newConversation());
  else listConversations();
  if (document.activeElement === document.body) byId("new-chat").focus();
  toast(`Deleted “${conversation.title}”.`, () => {
    keep(conversation, false);
    open(conversation);
  });
}

// Showing

function open(conversation) {
  current = conversation;
  selected = null;
  showConversation();
  listConversations();
  toggleSidebar(false);
  prompt.focus();
  scroller.scrollTop = scroller.scrollHeight;
}

function showConversation() {
  const box = byId("messages");
  // Only what is new is added, so that a screen reader does not read the conversation again.
  let same = 0;
  while (same < views.length && views[same].message === current.messages[same]) same += 1;
  for (const view of views.splice(same)) view.element.remove();
  for (const message of current.messages.slice(same)) {
    const select = () => {
      selected = message;
      togglePanel(true);
      refresh();
    };
    const view =
      message.role === "user"
        ? new UserMessage(message, (text) => edit(message, text))
        : new AssistantMessage(message, { again: writeAgain, select });
    views.push(view);
    box.append(view.element);
  }
  byId("welcome").hidden = current.messages.length > 0;
  document.title = current.title ? `${current.title} · nextn` : "nextn";
  refresh();
}

let changed = false;
let resting = false;

/** Refresh, but leave most of the time to everything else, however long the text has become. */
function refreshSoon() {
  changed = true;
  if (resting) return;
  changed = false;
  resting = true;
  const started = performance.now();
  refresh();
  const rest = () => {
    resting = false;
    if (changed) refreshSoon();
  };
  setTimeout(rest, Math.max(30, 3 * (performance.now() - started)));
}

function refresh() {
  const stick = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
  const writer = writers.get(current.id);
  const last = current.messages.at(-1);
  const shown = selected ?? current.messages.findLast((message) => message.role === "assistant") ?? null;
  for (const view of views) {
    const { message } = view;
    view.update({
      origins: settings.origins,
      writing: writer && message === last ? writer.answer : null,
      last: message === last,
      selected: message === shown && isPanelOpen(),
    });
  }
  showBusy(Boolean(writer));
  if (isPanelOpen()) fillPanel(byId("panel-body"), shown);
  if (stick && writer) scroller.scrollTop = scroller.scrollHeight;
}

function scrollToEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}

function listConversations() {
  const items = conversations.map((conversation) =>
    element(
      "li",
      { "data-current": conversation === current },
      element(
        "button",
        { type: "button", class: "conversation-link", "aria-current": conversation === current ? "true" : null, onclick: () => open(conversation) },
        conversation.title || "Untitled",
      ),
      iconButton("trash", `Delete “${conversation.title}”`, () => remove(conversation)),
    ),
  );
  byId("conversations").replaceChildren(...items);
}

function showNotice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

async function showModels() {
  const select = byId("model");
  try {
    const models = await listModels(settings);
    select.replaceChildren(...models.map(({ id }) => element("option", { value: id }, id)));
    if (models.some(({ id }) => id === settings.model)) select.value = settings.model;
    showNotice(models.length ? "" : "The server has no model.");
  } catch (error) {
    if (error.status === 401) showNotice("This server asks for an API key. Enter it in the settings.");
    else showNotice(error.status ? error.message : "The server cannot be reached.");
  }
}

// Settings and switches

function change(fields) {
  Object.assign(settings, fields);
  store.saveSettings(settings);
  dispatchEvent(new CustomEvent("themechange", { detail: settings.theme }));
  for (const [id, on] of [["show-origins", settings.origins], ["compare", settings.compare], ["show-panel", isPanelOpen()]]) {
    byId(id).setAttribute("aria-pressed", String(on));
  }
  byId("app").toggleAttribute("data-panel", isPanelOpen());
  const dark = document.documentElement.dataset.theme === "dark";
  for (const name of ["aria-label", "title"]) byId("theme").setAttribute(name, dark ? "Light theme" : "Dark theme");
  refresh();
}

// Where there is little room the panel lies over the answer, and is closed when the page is opened.
let drawer = false;
const isPanelOpen = () => (wide.matches ? settings.panel : drawer);

function togglePanel(on = !isPanelOpen()) {
  if (!wide.matches) drawer = on;
  change(wide.matches ? { panel: on } : {});
}

const toggleOrigins = () => change({ origins: !settings.origins });
const toggleCompare = () => change({ compare: !settings.compare });
const toggleTheme = () => change({ theme: document.documentElement.dataset.theme === "dark" ? "light" : "dark" });

function toggleSidebar(on) {
  byId("app").toggleAttribute("data-sidebar", on);
  byId("shade").hidden = !on;
  const button = byId("open-sidebar");
  const back = !on && button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(on));
  if (on) byId("close-sidebar").focus();
  else if (back) button.focus();
}

const editSettings = () =>
  openSettings(settings, (fields) => {
    const known = settings.api_key;
    change(fields);
    if (fields.api_key !== known) showModels();
  });

function deleteAll() {
  if (!conversations.length || !confirm(`Delete all ${conversations.length} conversations? This cannot be undone.`)) return;
  conversations.forEach(forget);
  conversations = [];
  byId("settings-dialog").close();
  open(store.newConversation());
}

function download() {
  const link = element("a", { href: URL.createObjectURL(store.exportConversations(conversations)), download: "nextn-conversations.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function upload(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const count = store.importConversations(await file.text());
    reload();
    open(current.messages.length ? current : (conversations[0] ?? current));
    toast(`Imported ${count} ${count === 1 ? "conversation" : "conversations"}.`);
  } catch (error) {
    toast(error.message);
  }
}

// Keys and clicks

const startNew = () => open(store.newConversation());

const ALT_KEYS = {
  KeyN: startNew,
  KeyR: writeAgain,
  KeyT: toggleOrigins,
  KeyC: toggleCompare,
  KeyP: () => togglePanel(),
  Comma: editSettings,
  Slash: openShortcuts,
};

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return; // which Escape closes by itself
  if (event.key === "Escape") {
    if (byId("app").hasAttribute("data-sidebar")) toggleSidebar(false);
    else if (writers.has(current.id)) stop();
    else if (drawer && !wide.matches) togglePanel(false);
  } else if (event.altKey && !event.ctrlKey && !event.metaKey && ALT_KEYS[event.code]) {
    event.preventDefault();
    ALT_KEYS[event.code]();
  }
});

bindComposer({
  send,
  isBusy: () => writers.has(current.id),
  editLast() {
    const view = views.findLast((one) => one instanceof UserMessage);
    view?.edit();
    return Boolean(view);
  },
});
scroller.addEventListener("scroll", () => {
  byId("to-end").hidden = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 200;
});

for (const [id, action] of Object.entries({
  stop,
  "new-chat": startNew,
  "to-end": scrollToEnd,
  "show-origins": toggleOrigins,
  compare: toggleCompare,
  "show-panel": () => togglePanel(),
  "close-panel": () => togglePanel(false),
  "open-sidebar": () => toggleSidebar(true),
  "close-sidebar": () => toggleSidebar(false),
  shade: () => toggleSidebar(false),
  theme: toggleTheme,
  shortcuts: openShortcuts,
  "open-settings": editSettings,
  "delete-all": deleteAll,
  export: download,
  import: () => byId("import-file").click(),
})) {
  byId(id).addEventListener("click", action);
}
addEventListener("focus", () => {
  if (!byId("model").value) showModels(); // the server may be there by now
});
byId("import-file").addEventListener("change", upload);
byId("model").addEventListener("change", (event) => change({ model: event.target.value }));
wide.addEventListener("change", () => change({}));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => change({}));

// Another tab may have changed what is kept.
addEventListener("storage", ({ key }) => {
  if (!store.isConversationKey(key)) return;
  reload(key);
  showConversation();
  listConversations();
});
addEventListener("pagehide", () => {
  for (const conversation of conversations) if (writers.has(conversation.id)) keep(conversation, false);
});

byId("suggestions").append(
  ...SUGGESTIONS.map(([title, text]) =>
    element("button", { type: "button", onclick: () => send(text) }, element("strong", {}, title), element("span", {}, text)),
  ),
);
change({});
showConversation();
listConversations();
scrollToEnd();
showModels();
prompt.focus();
