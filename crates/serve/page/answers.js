// The view of one answer: its text as Markdown while it grows, and what can be done with it.

/** Milliseconds between two renderings of a growing answer. */
const RENDER_EVERY = 300;

const rendered = new Map(); // Markdown -> HTML

/** An element with properties, attributes (names with a dash, `role`, `for`) and children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "use")).setAttribute("href", `#icon-${name}`);
  return svg;
}

function iconButton(name, label, action) {
  return make("button", { type: "button", className: "icon", "aria-label": label, title: label, onclick: action }, icon(name));
}

function copyButton(label, text) {
  // Browsers offer the clipboard to pages of HTTPS and localhost only.
  if (!navigator.clipboard) return null;
  const button = iconButton("copy", label, async () => {
    await navigator.clipboard.writeText(text());
    button.replaceChildren(icon("done"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

/** Shows Markdown in an element: as plain text at once, as HTML soon. */
class MarkdownView {
  constructor(element) {
    this.element = element;
    this.text = "";
    this.shown = ""; // the part of the text that is HTML already
    this.tail = make("span", { className: "tail" });
    this.waiting = false;
    this.failed = false;
  }

  /** `growing`: more text will follow. */
  show(text, growing) {
    this.text = text;
    this.growing = growing;
    const known = rendered.get(text);
    if (known !== undefined) this.replace(known, text);
    else this.placeTail();
    if (this.shown !== text && !this.waiting && !this.failed) this.render();
  }

  async render() {
    this.waiting = true;
    while (this.shown !== this.text) {
      const text = this.text;
      let html;
      try {
        html = rendered.get(text) ?? (await asHtml(text));
      } catch {
        this.failed = true; // It stays plain text.
        break;
      }
      if (!this.growing) rendered.set(text, html);
      this.replace(html, text);
      if (this.growing) await new Promise((resolve) => setTimeout(resolve, RENDER_EVERY));
    }
    this.waiting = false;
  }

  replace(html, text) {
    // The only HTML that this page takes from outside: the server has sanitized it.
    this.element.innerHTML = html;
    this.shown = text;
    for (const pre of this.element.querySelectorAll("pre")) frameCode(pre);
    for (const table of this.element.querySelectorAll("table")) {
      const frame = make("div", { className: "wide-table", tabIndex: 0, role: "group", "aria-label": "Table" });
      table.replaceWith(frame);
      frame.append(table);
    }
    this.placeTail();
  }

  /** Puts what is not HTML yet behind the last word, or below it if a block has ended. */
  placeTail() {
    this.tail.textContent = this.text.slice(this.shown.length);
    this.tail.classList.toggle("growing", this.growing);
    if (!this.growing && !this.tail.textContent) return this.tail.remove();
    let end = this.element;
    const blockEnded = /\n\s*$|(^|\n)(```+|~~~+)$/.test(this.shown);
    while (!blockEnded || this.tail.textContent === "") {
      const last = [...end.childNodes].findLast((node) => node !== this.tail && node.textContent.trim());
      if (!(last instanceof Element) || !last.matches("p, ul, ol, li, blockquote, pre, .code, code, h1, h2, h3, h4, h5, h6")) break;
      if (last.matches("code") && !end.matches("pre")) break;
      end = last;
    }
    if (end.matches("code")) this.tail.textContent = this.tail.textContent.split(/^(?:```|~~~)/m)[0];
    const newline = end.matches("code") && !this.shown.endsWith("\n") ? end.lastChild : null;
    if (newline?.data?.endsWith("\n")) newline.data = newline.data.slice(0, -1);
    end.append(this.tail);
  }
}

/** A code block with its language, and a button that copies it. */
function frameCode(pre) {
  const language = pre.querySelector("code")?.className.match(/^language-(\S+)/)?.[1] ?? "";
  const frame = make("div", { className: "code" });
  pre.replaceWith(frame);
  // Wide code scrolls, also by keyboard.
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  frame.append(make("div", { className: "language" }, language, copyButton("Copy the code", () => pre.textContent)), pre);
}

const REASONS = { length: "reached the limit", stopped: "stopped" };

/** What is known about a finished answer, such as "42 tokens, 30 a second". */
function facts({ reason, tokens, seconds }) {
  const parts = [];
  if (tokens != null) parts.push(tokens === 1 ? "1 token" : `${tokens} tokens`);
  // Short answers may arrive at once: that is no speed.
  const speed = tokens / seconds;
  if (tokens >= 10 && seconds >= 0.1) parts.push(`${speed < 10 ? speed.toFixed(1) : Math.round(speed)} tokens/s`);
  if (REASONS[reason]) parts.push(REASONS[reason]);
  return parts.join(" · ");
}

/** The element of an answer. `retry` is null where an answer cannot be asked for again. */
function answerView(answer, column, retry) {
  const text = make("div", { className: "text" });
  const markdown = new MarkdownView(text);
  const cause = make("span");
  const again = retry && make("button", { type: "button", className: "again", onclick: retry }, "Try again");
  const problem = make("div", { className: "problem" }, cause, again);
  const about = make("span");
  const copy = copyButton("Copy the answer", () => answer.text);
  const tools = make("footer", {}, about, copy, retry && iconButton("retry", "Answer again", retry));
  const element = make(
    "article",
    { className: `answer column-${column}`, "aria-label": `Answer of ${answer.model}` },
    make("h3", {}, answer.model),
    text,
    problem,
    tools,
  );
  const update = (running) => {
    markdown.show(answer.text, running);
    element.classList.toggle("running", running);
    element.setAttribute("aria-busy", running);
    cause.textContent = answer.error ?? "";
    problem.hidden = !answer.error;
    const isEmpty = !running && !answer.text && !answer.error;
    about.textContent = isEmpty ? "No text" + (facts(answer) && ` · ${facts(answer)}`) : facts(answer);
    tools.hidden = running || Boolean(answer.error && !answer.text);
    if (copy) copy.hidden = !answer.text;
  };
  update(false);
  return { element, update };
}

/** Reads answers to screen readers: sentence by sentence, or at the end. */
class Speaker {
  constructor(region, name, bySentence) {
    this.region = region;
    this.name = name;
    this.bySentence = bySentence;
    this.spoken = 0;
  }

  follow(text) {
    if (!this.bySentence) return;
    const sentences = text.slice(this.spoken).match(/^[^]*(?:[.!?:](?=\s)|\n)/);
    if (sentences) this.say(text, this.spoken + sentences[0].length);
  }

  finish(text, ending) {
    this.say(text, text.length);
    if (ending) this.region.append(make("p", {}, ending));
  }

  say(text, end) {
    const part = text.slice(this.spoken, end).trim();
    if (part) this.region.append(make("p", {}, this.spoken === 0 ? `${this.name}: ${part}` : part));
    this.spoken = end;
    while (this.region.childElementCount > 20) this.region.firstElementChild.remove();
  }
}
