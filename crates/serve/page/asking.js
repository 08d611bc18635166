// Questions, and the answers to them.

function ask(text, image, turns) {
  stopAll();
  conversation.turns = turns;
  const answers = columns().map((model) => ({ model, text: "", reason: null, tokens: null, seconds: null, error: null }));
  conversation.turns.push({ question: text, image, answers });
  keep(() => save(conversation));
  show();
  scroll.scrollTop = scroll.scrollHeight;
  answers.forEach((_, column) => run(conversation, column));
}

/** Fills the answer of `column` to the conversation's last question. */
async function run(asked, column) {
  const turns = asked.turns.slice();
  const answer = turns.at(-1).answers[column];
  Object.assign(answer, { text: "", reason: null, tokens: null, seconds: null, error: null });
  const controller = new AbortController();
  running.set(answer, controller);
  const speaker = new Speaker(get("spoken"), answer.model, turns.at(-1).answers.length === 1);
  const update = () => keepingPlace(() => views.get(answer)?.update(running.has(answer)));
  let scheduled = false;
  const updateSoon = () => {
    // A fast model has many tokens for each frame.
    if (!scheduled) requestAnimationFrame(() => ((scheduled = false), update()));
    scheduled = true;
  };
  runningChanged();
  update();
  let began = null;
  let saved = Date.now();
  try {
    const end = await streamAnswer(request(answer.model, turns, column), offer(answer.model)?.adapter, controller.signal, (text) => {
      began ??= performance.now();
      answer.text += text;
      speaker.follow(answer.text);
      updateSoon();
      if (Date.now() - saved > 1000) {
        saved = Date.now();
        keep(() => save(asked));
      }
    });
    Object.assign(answer, end);
    // The first token's time is that of reading the question.
    if (began !== null) answer.seconds = (performance.now() - began) / 1000;
  } catch (error) {
    if (controller.signal.aborted) answer.reason = "stopped";
    else answer.error = error.message;
    if (error.status === 401) askForKey("");
  }
  running.delete(answer);
  speaker.finish(answer.text, answer.error ?? (answer.reason === "stopped" ? "Stopped." : ""));
  if (!deleted.has(asked.id)) keep(() => save(asked));
  runningChanged();
  update();
  listConversations();
}

function stopAll() {
  for (const controller of running.values()) controller.abort();
}

function runningChanged() {
  const hadFocus = [get("send"), get("stop")].includes(document.activeElement);
  get("stop").hidden = !running.size;
  get("send").hidden = running.size > 0;
  if (hadFocus) (running.size ? get("stop") : question).focus();
  log.classList.toggle("busy", running.size > 0);
}

function questionChanged() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
  get("send").disabled = !(question.value.trim() || picture) || !offered.length;
}

get("ask").onsubmit = (event) => {
  event.preventDefault();
  if (get("send").disabled || running.size) return;
  const text = question.value.trim();
  question.value = "";
  const image = picture;
  setPicture(null);
  ask(text, image, conversation.turns);
};
get("stop").onclick = stopAll;
question.oninput = questionChanged;
question.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  get("ask").requestSubmit();
};
document.addEventListener("keydown", (event) => {
  // Esc also closes panels and dialogs.
  if (event.key === "Escape" && !document.querySelector(":popover-open, dialog[open]")) stopAll();
});
