// A reply token by token: coloured by how much the contrast moved, with the alternatives on hover and by keyboard.

import { element, show, visible } from "./text.js";

const LEVELS = [0.01, 0.1, 0.3, 0.6]; // shares moved at which a token's mark gets stronger
const ROWS = { drawn: "Said", base: "Undefended model", alone: "Prompt alone" };
const SHARES = ["undefended", "prompt alone", "as said"];
const GAP = 6; // pixels between a token and its tip

const views = new WeakMap(); // the token of each element

/**
 * Return the list of a reply's tokens: one stop of the Tab key, within which the arrow keys move.
 *
 * The last token of a reply that has `ended` is the model's sign for that, and no text.
 */
export function tokenList(tokens, ended) {
  const options = tokens.map((token) => {
    const level = LEVELS.filter((least) => token.moved >= least).length;
    const option = element("span", {
      class: `token m${level}${token.changed ? " changed" : ""}`,
      role: "option",
      "aria-selected": "false",
      tabindex: "-1",
    });
    show(option, word(token).replaceAll("\n", "⏎\n") || named(token.drawn));
    views.set(option, token);
    return option;
  });
  if (ended) options.at(-1)?.classList.add("end");
  options[0]?.setAttribute("tabindex", "0");
  return element(
    "div",
    { class: "tokens", dir: "auto", role: "listbox", "aria-label": "Tokens", "aria-orientation": "horizontal" },
    ...options.flatMap((option, at) => (word(tokens[at]) === tokens[at].drawn.text ? [option] : [" ", option])),
  );
}

/** Return what is boxed of a token: a blank before a word stands outside. */
function word(token) {
  return token.drawn.text.replace(/^ (?=\S)/, "");
}

/** Show in `tip` what is known of the token that the mouse or the keyboard is at, anywhere in `root`. */
export function explainTokens(root, tip) {
  const close = () => (tip.hidden = true);
  const open = (event) => {
    const option = tokenOf(event);
    if (option) showTip(option, tip);
  };
  root.addEventListener("pointerover", open);
  root.addEventListener("pointerout", close);
  root.addEventListener("focusin", (event) => {
    const option = tokenOf(event);
    if (!option) return;
    option.setAttribute("aria-label", said(views.get(option)));
    choose(option);
    showTip(option, tip);
  });
  root.addEventListener("focusout", close);
  root.addEventListener("keydown", move);
  const follow = () => (views.has(document.activeElement) ? showTip(document.activeElement, tip) : close());
  document.addEventListener("scroll", () => tip.hidden || follow(), { passive: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
}

function tokenOf(event) {
  const option = event.target.closest(".token");
  return views.has(option) ? option : null;
}

function choose(option) {
  for (const other of option.parentElement.querySelectorAll('[tabindex="0"]')) {
    other.setAttribute("tabindex", "-1");
    other.setAttribute("aria-selected", "false");
  }
  option.setAttribute("tabindex", "0");
  option.setAttribute("aria-selected", "true");
}

function move(event) {
  const option = tokenOf(event);
  const goal = {
    ArrowRight: option?.nextElementSibling,
    ArrowLeft: option?.previousElementSibling,
    Home: option?.parentElement.firstElementChild,
    End: option?.parentElement.lastElementChild,
  }[event.key];
  if (!goal) return;
  event.preventDefault();
  goal.focus();
}

function showTip(option, tip) {
  tip.replaceChildren(...details(views.get(option)));
  tip.hidden = false;
  const place = option.getClientRects()[0] ?? option.getBoundingClientRect();
  const below = place.top < tip.offsetHeight + GAP;
  const left = Math.min(place.left, document.documentElement.clientWidth - tip.offsetWidth - GAP);
  tip.style.left = `${Math.max(left, GAP)}px`;
  tip.style.top = `${below ? place.bottom + GAP : place.top - tip.offsetHeight - GAP}px`;
}

function details(token) {
  const head = ["", "Token", ...SHARES.map((share) => `P ${share}`)].map((text) => element("th", {}, text));
  const rows = Object.entries(ROWS).map(([name, title]) =>
    element(
      "tr",
      {},
      element("th", {}, title),
      element("td", { class: "name" }, element("bdi", {}, named(token[name]))),
      ...token[name].shares.map((share) => element("td", {}, percent(share))),
    ),
  );
  return [element("table", {}, element("tr", {}, ...head), ...rows), element("p", {}, summary(token))];
}

function said(token) {
  const shares = token.drawn.shares.map((share, index) => `${SHARES[index]} ${percent(share)}`).join(", ");
  const instead = token.changed ? ` The undefended model: ${named(token.base)}.` : "";
  return `${named(token.drawn)}: ${shares}.${instead} Prompt alone: ${named(token.alone)}. ${summary(token)}`;
}

function summary(token) {
  const mask = token.removed ? " The mask removes what the undefended model would say." : "";
  return `Moved: ${percent(token.moved)}${token.contrasted ? ", contrasted" : ""}.${mask}`;
}

function named(candidate) {
  const text = candidate.text.replaceAll("\n", "⏎").replaceAll(" ", "␣").replaceAll("\t", "⇥");
  return visible(text) || `#${candidate.id}`;
}

/** Return a share as a percentage; one that is nearly 0 or 1 says no more than that. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return share >= 0.9995 && share < 1 ? "> 99.9 %" : `${(share * 100).toFixed(1)} %`;
}
