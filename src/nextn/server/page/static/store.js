// What the browser keeps: settings, and one entry for each conversation.

const SETTINGS = "nextn.settings";
const CHAT = "nextn.chat.";
const FORMAT = "nextn-conversations";
const ROLES = ["user", "assistant"];

const DEFAULTS = {
  model: "",
  system: "",
  temperature: null,
  top_p: null,
  top_k: null,
  min_p: null,
  max_tokens: null,
  seed: null,
  mtp: "auto",
  theme: "auto",
  api_key: "",
  origins: false,
  compare: false,
  panel: true, // open where there is room
};

const storage = findStorage();

/** The browser's storage; where it is forbidden, one that lasts as long as the page. */
function findStorage() {
  try {
    localStorage.getItem(SETTINGS);
    return localStorage;
  } catch {
    const entries = new Map();
    return {
      get length() {
        return entries.size;
      },
      key: (n) => [...entries.keys()][n],
      getItem: (key) => entries.get(key) ?? null,
      setItem: (key, value) => entries.set(key, value),
      removeItem: (key) => entries.delete(key),
    };
  }
}

export function loadSettings() {
  try {
    return { ...DEFAULTS, ...JSON.parse(storage.getItem(SETTINGS) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function saveSettings(settings) {
  try {
    storage.setItem(SETTINGS, JSON.stringify(settings));
  } catch {
    console.info("there is no room to keep the settings");
  }
}

export function newConversation() {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, title: "", updated: Date.now(), messages: [] };
}

/** All conversations, the latest first; entries that are broken are left alone. */
export function loadConversations() {
  const found = [];
  for (let n = 0; n < storage.length; n += 1) {
    const key = storage.key(n);
    if (!key.startsWith(CHAT)) continue;
    try {
      found.push(checkConversation(JSON.parse(storage.getItem(key))));
    } catch {
      console.info(`${key} holds no conversation`);
    }
  }
  return found.sort((a, b) => b.updated - a.updated);
}

/** Keep a conversation. Where there is no room, older ones lose the origins of their tokens. */
export function saveConversation(conversation) {
  const key = CHAT + conversation.id;
  const text = JSON.stringify(conversation);
  try {
    storage.setItem(key, text);
  } catch (error) {
    if (error.name !== "QuotaExceededError") throw error;
    for (const other of loadConversations().reverse()) {
      if (other.id !== conversation.id) storage.setItem(CHAT + other.id, JSON.stringify(withoutTokens(other)));
    }
    storage.setItem(key, JSON.stringify(withoutTokens(conversation)));
  }
}

export function deleteConversation(id) {
  storage.removeItem(CHAT + id);
}

export function isKeyOf(key, id) {
  return key === CHAT + id;
}

export function isConversationKey(key) {
  return key === null || key.startsWith(CHAT);
}

/** All conversations as a file for `importConversations`. */
export function exportConversations(conversations) {
  const record = { format: FORMAT, version: 1, conversations };
  return new Blob([JSON.stringify(record, null, 1)], { type: "application/json" });
}

/**
 * Take in the conversations of an exported file, beside those that there are.
 * @throws {Error} it is no such file
 */
export function importConversations(text) {
  let record;
  try {
    record = JSON.parse(text);
  } catch {
    throw new Error("The file is no JSON.");
  }
  if (record?.format !== FORMAT || !Array.isArray(record.conversations)) {
    throw new Error("The file holds no conversations that this page exported.");
  }
  const conversations = record.conversations.map(checkConversation);
  const present = new Set(loadConversations().map((conversation) => conversation.id));
  for (const conversation of conversations) {
    if (present.has(conversation.id)) conversation.id = newConversation().id;
    saveConversation(conversation);
  }
  return conversations.length;
}

function withoutTokens(conversation) {
  const strip = (answer) => (answer ? { ...answer, tokens: [] } : answer);
  const messages = conversation.messages.map((message) => ({ ...strip(message), plain: strip(message.plain) }));
  return { ...conversation, messages };
}

/** The parts of a conversation that the page knows, each of the type that it must have. */
function checkConversation(value) {
  const require = (good, what) => {
    if (!good) throw new Error(`A conversation has ${what}.`);
  };
  require(value !== null && typeof value === "object" && typeof value.id === "string", "no id");
  require(typeof value.title === "string" && Number.isFinite(value.updated), "no title or time");
  require(Array.isArray(value.messages), "no messages");
  const messages = value.messages.map((message) => {
    require(ROLES.includes(message?.role), "a message of an unknown role");
    if (message.role === "user") {
      require(typeof message.content === "string", "a message without text");
      return { role: "user", content: message.content };
    }
    return { role: "assistant", ...checkAnswer(message, require), plain: message.plain ? checkAnswer(message.plain, require) : null };
  });
  return { id: value.id, title: value.title, updated: value.updated, messages };
}

function checkAnswer(value, require) {
  const isText = (text) => typeof text === "string";
  const isToken = (token) => Array.isArray(token) && isText(token[0]) && isText(token[1]);
  require(isText(value.content) && isText(value.reasoning), "an answer without text");
  require(Array.isArray(value.tokens) && value.tokens.every(isToken), "tokens that are none");
  const orNull = (item, good) => (good ? item : null);
  return {
    content: value.content,
    reasoning: value.reasoning,
    tokens: value.tokens,
    model: orNull(value.model, isText(value.model)),
    speed: orNull(value.speed, value.speed !== null && typeof value.speed === "object" && Number.isFinite(value.speed.tokens)),
    finish: orNull(value.finish, isText(value.finish)),
    error: orNull(value.error, isText(value.error)),
  };
}
