// Settings, shortcuts, and the line at the bottom that says what has happened.

import { byId, element } from "./dom.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];
const TEXTS = ["system", "mtp", "theme", "api_key"];

for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}

/** Show the settings; `saved` is called with the fields that were set. */
export function openSettings(settings, saved) {
  const dialog = byId("settings-dialog");
  const form = byId("settings-form");
  for (const name of NUMBERS) form.elements[name].value = settings[name] ?? "";
  for (const name of TEXTS) form.elements[name].value = settings[name];
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "save") return;
    const fields = {};
    for (const name of NUMBERS) {
      const { value } = form.elements[name];
      fields[name] = value === "" ? null : Number(value);
    }
    for (const name of TEXTS) fields[name] = form.elements[name].value;
    fields.api_key = fields.api_key.trim();
    saved(fields);
  };
  dialog.showModal();
}

export function openShortcuts() {
  byId("shortcuts-dialog").showModal();
}

/** Tell a screen reader. */
export function say(text) {
  byId("status").textContent = text;
}

let toastTimer;

/** Say something for some seconds, with a way to undo it. */
export function toast(text, undo = null) {
  document.querySelector(".toast")?.remove();
  clearTimeout(toastTimer);
  const shown = element("div", { class: "toast", role: "status" }, element("span", {}, text));
  if (undo) {
    const back = () => {
      shown.remove();
      undo();
    };
    shown.append(element("button", { type: "button", class: "button", onclick: back }, "Undo"));
  }
  document.body.append(shown);
  toastTimer = setTimeout(() => shown.remove(), 8000);
}
