// Builds elements. Text is always a text node: nothing here, or anywhere, sets innerHTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param {string} tag its name
 * @param {Object} attributes attributes; "on..." are listeners, `class` and `data-*` as in HTML.
 *     False, null and undefined leave one out, true is the empty text.
 * @param {...(Node|string|null|Array)} children null is left out
 */
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for the elements of a picture. */
export function drawing(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** One of the icons that index.html defines. */
export function icon(name) {
  return drawing("svg", { class: "icon", "aria-hidden": "true" }, drawing("use", { href: `#i-${name}` }));
}

/** A button that shows an icon only. */
export function iconButton(name, label, onclick, attributes = {}) {
  return element(
    "button",
    { type: "button", class: "icon-button small", "aria-label": label, title: label, onclick, ...attributes },
    icon(name),
  );
}

/** Find an element of index.html. */
export function byId(id) {
  return document.getElementById(id);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
