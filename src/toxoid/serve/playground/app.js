// The playground: a chat whose messages go to both sides at once, the protected model and, if shown, the undefended one.

import { element, show, VisibleText } from "./text.js";
import { explainTokens, percent, tokenList } from "./tokens.js";

const TITLES = { base: "Without protection", protected: "Protected" };
const PROMPTS = {
  sp: "the shield's safe prompt",
  safe: "the safe system prompt",
  ap: "its adversarial prompt",
  opposite: "the opposite system prompt",
  bare: "no prompt",
};
const ENDS = {
  length: "cut off: it has as many tokens as it may",
  content_filter: "refused by the judge",
  stopped: "stopped",
};
const NEAR = 80; // pixels from the end of the page within which it is followed

const at = (id) => document.getElementById(id);
let setup, key, running;
let exchanges = [];

// One side's reply to a message

class Reply {
  text = "";
  #body = element("p", { class: "said", dir: "auto" });
  #note = element("p", { class: "ending" });
  #visible = new VisibleText(this.#body);

  constructor(side, alpha) {
    const strength = alpha === null || side === "base" ? "" : `α ${alpha.toFixed(2)}`;
    const title = element("h3", {}, TITLES[side], element("small", {}, strength));
    this.node = element("article", { class: `reply ${side}`, "aria-busy": "true" }, title, this.#body, this.#note);
  }

  add(text) {
    this.text += text;
    this.#visible.add(text);
  }

  end({ finish, tokens, reply_score: score }) {
    if (tokens?.length) {
      this.node.classList.add("explained");
      this.#body.after(tokenList(tokens, finish === "stop"));
    }
    this.#close(ENDS[finish]);
    if (setup.judged.reply && score !== undefined) this.#note.append(" ", judged(score, "harmful"));
  }

  stop() {
    this.#close(ENDS.stopped);
  }

  fail(message) {
    this.#close();
    this.#note.append(show(element("span", { class: "problem" }), message));
  }

  #close(note) {
    this.node.setAttribute("aria-busy", "false");
    if (note) this.#note.append(element("span", { class: "tag" }, note));
  }
}

function judged(score, what) {
  if (score === null) return element("span", { class: "tag" }, "judge: not scored");
  const side = score < 0.5 ? "better" : "worse";
  return element("span", { class: `tag ${side}` }, `judge: ${percent(score)} ${what}`);
}

// A message and the replies to it

class Exchange {
  replies = {};
  #asked = element("h2", { class: "asked" });
  #sides = element("div", { class: "sides" });

  constructor(text) {
    this.text = text;
    this.node = element("div", { class: "exchange" }, this.#asked, this.#sides);
  }

  async ask(signal) {
    const alpha = setup.alpha === null ? null : at("alpha").valueAsNumber;
    const given = {
      temperature: at("temperature").valueAsNumber || 0,
      seed: crypto.getRandomValues(new Uint32Array(1))[0] >>> 1, // the same on both sides
    };
    show(this.#asked, this.text);
    const sides = setup.base ? ["base", "protected"] : ["protected"];
    const before = exchanges.slice(0, exchanges.indexOf(this));
    this.replies = Object.fromEntries(sides.map((side) => [side, new Reply(side, alpha)]));
    this.#sides.replaceChildren(...sides.map((side) => this.replies[side].node));
    await Promise.all(
      sides.map((side) => {
        const messages = [...history(before, side), { role: "user", content: this.text }];
        const changed = side === "base" || alpha === setup.alpha ? null : alpha;
        return this.#answer(side, { side, messages, alpha: changed, ...given }, signal);
      }),
    );
  }

  async #answer(side, body, signal) {
    const reply = this.replies[side];
    try {
      let ended = false;
      for await (const event of asked("/playground/chat", { method: "POST", body: JSON.stringify(body), signal })) {
        if (event.error) throw new Error(event.error.message);
        follow(() => (event.text === undefined ? reply.end(event) : reply.add(event.text)));
        if (event.text !== undefined) continue;
        ended = true;
        const score = event.request_score;
        if (side === "protected" && setup.judged.request && score !== undefined)
          this.#asked.append(" ", judged(score, "problematic"));
      }
      if (!ended) throw new Error("the connection broke off");
    } catch (error) {
      if (signal.aborted) reply.stop();
      else reply.fail(error.message);
    }
  }
}

/** Return what a side has heard and said; a message that it has not answered is left out. */
function history(before, side) {
  return before.flatMap(({ text, replies }) =>
    replies[side]?.text
      ? [{ role: "user", content: text }, { role: "assistant", content: replies[side].text }]
      : [],
  );
}

// The server

async function request(path, options = {}) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(path, { headers, credentials: "omit", ...options });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const error = new Error(body?.error?.message ?? `the server answers ${response.status}`);
  error.status = response.status;
  throw error;
}

/** Yield the server-sent events of an answer. */
async function* asked(path, options) {
  const response = await request(path, options);
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

// The page

/** Change the page, and stay at its end if that is where the reader is. */
function follow(change) {
  const page = document.documentElement;
  const near = page.scrollHeight - page.clientHeight - page.scrollTop < NEAR;
  change();
  if (near) toEnd();
}

function toEnd() {
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
}

async function ask(exchange) {
  running = new AbortController();
  busy(true);
  at("status").textContent = "Answering …";
  await exchange.ask(running.signal);
  at("status").textContent = running.signal.aborted ? "Stopped." : "Done.";
  running = null;
  busy(false);
}

function busy(is) {
  at("stop").hidden = !is;
  at("send").hidden = is;
  at("again").disabled = is || !exchanges.length;
  at("fresh").disabled = is;
}

function send() {
  const text = at("message").value;
  if (running || !text.trim()) return;
  at("message").value = "";
  at("examples").hidden = true;
  at("legend").hidden = !setup.base || !setup.prompts.length;
  const exchange = new Exchange(text);
  exchanges.push(exchange);
  at("chat").append(exchange.node);
  ask(exchange);
  toEnd();
}

function fresh() {
  exchanges = [];
  at("chat").replaceChildren();
  at("examples").hidden = !setup.examples.length;
  at("legend").hidden = true;
  at("status").textContent = "";
  busy(false);
  at("message").focus();
}

function showSetup() {
  show(at("model"), setup.model);
  at("protection").textContent = protection();
  const { alpha } = setup;
  at("alpha-control").hidden = alpha === null;
  at("alpha").value = alpha ?? 0;
  showAlpha();
  at("view-control").hidden = !setup.base || !setup.prompts.length;
  at("message").placeholder = `Ask ${setup.base ? "both sides" : "the model"}. Enter sends, Shift+Enter begins a line.`;
  for (const kind of new Set(setup.examples.map((example) => example.kind)))
    at("examples").append(element("h3", {}, kind), element("ul", {}, ...examples(kind)));
  for (const id of ["controls", "composer"]) at(id).hidden = false;
}

function protection() {
  if (!setup.protected) return "Served without protection.";
  const [positive, negative] = setup.prompts;
  const parts = [
    positive && `follows ${PROMPTS[positive]}${negative ? `, away from ${PROMPTS[negative]}` : ""}`,
    setup.judged.request && "requests are judged",
    setup.judged.reply && "replies are judged",
  ].filter(Boolean);
  return `Protected: ${parts.join("; ") || "asked under guidance"}.`;
}

function examples(kind) {
  return setup.examples
    .filter((example) => example.kind === kind)
    .map(({ text }) => {
      const button = show(element("button", { type: "button", class: "example" }), text);
      button.addEventListener("click", () => {
        at("message").value = text;
        at("message").focus();
      });
      return element("li", {}, button);
    });
}

function showAlpha() {
  at("alpha-value").textContent = at("alpha").valueAsNumber.toFixed(2);
}

async function enter() {
  try {
    setup = await (await request("/playground/setup")).json();
  } catch (error) {
    at("refused").textContent = error.status === 401 && !key ? "" : error.message;
    at("door").hidden = false;
    at("key").focus();
    return;
  }
  at("door").hidden = true;
  showSetup();
  fresh();
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  at("key").value = "";
  enter();
});
at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
at("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
at("stop").addEventListener("click", () => {
  running?.abort();
  at("message").focus();
});
at("again").addEventListener("click", () => ask(exchanges.at(-1)));
at("fresh").addEventListener("click", fresh);
at("alpha").addEventListener("input", showAlpha);
at("view").addEventListener("change", () => document.body.classList.toggle("plain", !at("view").checked));
explainTokens(at("chat"), at("tip"));
enter();
