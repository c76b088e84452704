// Text of models and users is hostile: it is shown, never obeyed. What hides, reorders or controls becomes a marker.

const HIDDEN =
  /[\p{C}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0e\u{e0100}-\u{e01ef}]/u;
const MARK = /\p{M}/u;
const MAX_MARKS = 3; // combining marks on one letter; more pile up over the lines around them

/** Create an element with attributes and children (nodes or strings). */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Text that grows at the end of a node, with markers like \u202e in place of what cannot be seen. */
export class VisibleText {
  #node;
  #marks = 0;

  constructor(node) {
    this.#node = node;
  }

  add(text) {
    let plain = "";
    const flush = () => {
      if (plain) this.#node.append(plain);
      plain = "";
    };
    for (const character of text.replaceAll("\r\n", "\n")) {
      this.#marks = MARK.test(character) ? this.#marks + 1 : 0;
      if (this.#marks > MAX_MARKS || hides(character)) {
        flush();
        this.#node.append(element("b", { class: "esc" }, escaped(character)));
      } else {
        plain += character;
      }
    }
    flush();
  }
}

/** Fill a node with text, as VisibleText shows it. */
export function show(node, text) {
  node.replaceChildren();
  new VisibleText(node).add(text);
  return node;
}

/** Return text as VisibleText shows it, in one string. */
export function visible(text) {
  return show(document.createElement("span"), text).textContent;
}

function hides(character) {
  return character !== "\n" && character !== "\t" && HIDDEN.test(character);
}

function escaped(character) {
  const code = character.codePointAt(0);
  if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
  if (code < 0x10000) return "\\u" + code.toString(16).padStart(4, "0");
  return "\\U" + code.toString(16).padStart(8, "0");
}
