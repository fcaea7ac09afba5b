// The box at the bottom in which a message is written.

import { byId } from "./dom.js";

const prompt = byId("prompt");

/**
 * Listen to the box.
 * @param {Object} actions `send` takes a text; `isBusy` says whether none can be sent now; `editLast`
 *     edits the last message instead, and says whether there is one
 */
export function bindComposer({ send, isBusy, editLast }) {
  const submit = () => {
    const text = prompt.value;
    if (!text.trim() || isBusy()) return;
    prompt.value = "";
    fit();
    send(text);
  };
  prompt.addEventListener("input", fit);
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && !prompt.value && !isBusy() && editLast()) {
      event.preventDefault();
    }
  });
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  fit();
}

/** Show either the button that sends or the one that stops. */
export function showBusy(busy) {
  byId("send").hidden = busy;
  byId("stop").hidden = !busy;
}

/** Make the box as high as its text, and allow to send what is not empty. */
function fit() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
  byId("send").disabled = !prompt.value.trim();
}
