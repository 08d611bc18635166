// Conversations in the browser's storage, one entry each.
//
// A conversation is `{ id, title, changed, turns }`, and a turn is
// `{ question, image, answers: [{ model, text, reason, tokens, seconds, error }] }` with one answer for each column.

const PREFIX = "llama-adapter.conversation.";
const SETTINGS = "llama-adapter.settings";

function newConversation() {
  return { id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`, title: "", changed: 0, turns: [] };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** All saved conversations, the latest first. */
function savedConversations() {
  return Object.keys(localStorage)
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => savedConversation(key.slice(PREFIX.length)))
    .filter(Boolean)
    .sort((a, b) => b.changed - a.changed);
}

/** A saved conversation, or null. */
function savedConversation(id) {
  const saved = parse(localStorage.getItem(PREFIX + id));
  return saved?.turns?.length ? saved : null;
}

/** Throws if the storage is full. */
function save(conversation) {
  conversation.changed = Date.now();
  conversation.title = title(conversation);
  localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
}

function forget(id) {
  localStorage.removeItem(PREFIX + id);
}

function title({ turns: [first] }) {
  const text = first?.question.trim().replace(/\s+/g, " ") || "Image";
  return text.length > 60 ? `${text.slice(0, 59).trimEnd()}…` : text;
}

/** What column `column` has said so far, as messages of OpenAI's API. `turns` ends with the question to answer. */
function messages(turns, column, system, seesImages) {
  // Models see one image.
  const latestImage = seesImages ? turns.findLast((turn) => turn.image) : undefined;
  const list = system ? [{ role: "system", content: system }] : [];
  turns.forEach((turn, index) => {
    const question =
      turn === latestImage
        ? [{ type: "image_url", image_url: { url: turn.image } }, { type: "text", text: turn.question }]
        : turn.question;
    const isLast = index === turns.length - 1;
    const answer = turn.answers[column] ?? turn.answers[0];
    if (isLast) list.push({ role: "user", content: question });
    else if (answer?.text) list.push({ role: "user", content: question }, { role: "assistant", content: answer.text });
  });
  return list;
}

function download(name, value) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${JSON.stringify(value, null, 2)}\n`], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
