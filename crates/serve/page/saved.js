// The list of saved conversations.

const deleted = new Set();

/** Runs a write to the browser's storage, and tells if there is no room. */
function keep(write) {
  try {
    write();
  } catch {
    tell("The browser's storage is full, so this is not saved. Export and delete conversations to make room.");
  }
}

function listConversations() {
  const saved = savedConversations();
  get("list").replaceChildren(
    ...saved.map((item) =>
      make(
        "li",
        {},
        make("button", { type: "button", className: "open", title: item.title, "aria-current": item.id === conversation.id, onclick: () => open(item.id) }, item.title),
        iconButton("export", `Export “${item.title}”`, () => exportConversations("conversation", [item.id])),
        iconButton("delete", `Delete “${item.title}”`, () => remove([item.id], "Delete this conversation?", "It is kept only in this browser and cannot be restored.")),
      ),
    ),
  );
  get("export-all").disabled = get("delete-all").disabled = !saved.length;
}

function exportConversations(name, ids) {
  const list = savedConversations().filter((item) => !ids || ids.includes(item.id));
  download(`llama-adapter-${name}.json`, { exported: new Date().toISOString(), conversations: list });
}

async function remove(ids, heading, text) {
  if (!(await confirmed(heading, text))) return;
  for (const id of ids) {
    deleted.add(id);
    forget(id);
  }
  if (ids.includes(conversation.id)) start(newConversation());
  else listConversations();
}

function start(next) {
  stopAll();
  conversation = next;
  get("spoken").replaceChildren();
  if (get("conversations").matches(":popover-open")) get("conversations").hidePopover();
  show();
  scroll.scrollTop = scroll.scrollHeight;
  question.focus();
}

function open(id) {
  if (id !== conversation.id) start(savedConversation(id) ?? newConversation());
}

get("new").onclick = () => start(newConversation());
get("export-all").onclick = () => exportConversations("conversations");
get("delete-all").onclick = () => {
  const ids = savedConversations().map(({ id }) => id);
  remove(ids, "Delete all conversations?", "They are kept only in this browser and cannot be restored.");
};
// Another tab has saved or deleted something.
window.addEventListener("storage", listConversations);
window.addEventListener("pagehide", stopAll);
