// The conversation on screen.

let views = new Map(); // answer -> its view

function show() {
  views = new Map();
  log.replaceChildren(...conversation.turns.map(turnView));
  empty.hidden = conversation.turns.length > 0;
  if (!empty.hidden) empty.replaceChildren(...emptyView());
  const name = conversation.turns.length ? title(conversation) : "New conversation";
  get("title").textContent = name;
  document.title = conversation.turns.length ? `${name} – llama-adapter` : "llama-adapter";
  history.replaceState(null, "", conversation.turns.length ? `#${conversation.id}` : location.pathname);
  listConversations();
}

function turnView(turn, index) {
  const shown = conversation;
  const isLast = index === shown.turns.length - 1;
  const answers = turn.answers.map((answer, column) => {
    const retry = () => {
      if (!running.has(answer)) run(shown, column);
      question.focus();
    };
    const view = answerView(answer, column, isLast ? retry : null);
    views.set(answer, view);
    return view.element;
  });
  const asked = make("div", { className: "question" });
  const heading = make("h2", { className: "unseen" }, `Question ${index + 1}`);
  const showQuestion = () =>
    asked.replaceChildren(
      heading,
      make("div", { className: "bubble" }, turn.image && make("img", { src: turn.image, alt: "Your image" }), turn.question && make("p", {}, turn.question)),
      iconButton("edit", "Edit the question", edit),
    );
  const edit = () => {
    const field = make("textarea", { value: turn.question, "aria-label": "Edited question" });
    const leave = () => {
      showQuestion();
      asked.querySelector("button").focus();
    };
    const resend = () => {
      if (!field.value.trim() && !turn.image) return;
      ask(field.value.trim(), turn.image, shown.turns.slice(0, index));
      question.focus();
    };
    field.onkeydown = (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        resend();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        leave();
      }
    };
    asked.replaceChildren(
      heading,
      make(
        "div",
        { className: "edit" },
        field,
        isLast ? null : make("p", {}, "What follows this question will be removed."),
        make(
          "div",
          { className: "buttons" },
          make("button", { type: "button", onclick: leave }, "Cancel"),
          make("button", { type: "button", className: "strong", onclick: resend }, "Send"),
        ),
      ),
    );
    field.style.height = `${field.scrollHeight}px`;
    field.focus();
  };
  showQuestion();
  return make("div", { className: "turn" }, asked, make("div", { className: `answers of-${answers.length}` }, ...answers));
}

function emptyView() {
  if (!offered.length) {
    if (!loadError) return [];
    if (loadError.status === 503) return [make("h2", {}, "Just a moment"), make("p", {}, loadError.message)];
    const again = make("button", { type: "button", className: "strong", onclick: loadModels }, "Try again");
    return [make("h2", {}, "No model yet"), make("p", { className: "problem" }, loadError.message), again];
  }
  const base = offered[0].id;
  const adapters = offered.filter((model) => model.adapter).length;
  const served = adapters === 0 ? base : `${base} with ${adapters === 1 ? "one adapter" : `${adapters} adapters`}`;
  const view = [
    make("h2", {}, settings.compare ? "Two answers, side by side" : "What would you like to know?"),
    make("p", {}, `This server runs ${served}. `, adapters && !settings.compare ? "Compare shows the answers of two models side by side." : ""),
  ];
  const examples = columns().map((id) => offer(id).examples).find((list) => list.length) ?? [];
  if (examples.length) {
    view.push(
      make("ul", {}, ...examples.map((text) => make("li", {}, make("button", { type: "button", onclick: () => { ask(text, null, []); question.focus(); } }, text)))),
    );
  }
  return view;
}

/** Runs `change`, and stays at the end of the conversation if that is on screen. */
function keepingPlace(change) {
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
  change();
  if (atEnd) scroll.scrollTop = scroll.scrollHeight;
}

const scrolled = () => (get("latest").hidden = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 200);
scroll.onscroll = scrolled;
new ResizeObserver(scrolled).observe(log);
get("latest").onclick = () => {
  scroll.scrollTop = scroll.scrollHeight;
  question.focus();
};
