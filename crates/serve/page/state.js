// What the page remembers, and messages to the person in front of it.

const get = (id) => document.getElementById(id);
const [log, empty, scroll, question, notice] = ["log", "empty", "scroll", "question", "notice"].map(get);

const DEFAULTS = {
  models: [], // one for each column; the second is kept while comparing is off
  compare: false,
  theme: "system",
  system: "",
  temperature: "0.7",
  top_p: "0.95",
  top_k: "",
  repetition_penalty: "",
  max_tokens: "",
  seed: "",
  stop: "",
};
const SAMPLING = ["temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "seed"];

let offered = []; // the server's models
let loadError = null;
let settings = { ...DEFAULTS, ...parse(localStorage.getItem(SETTINGS)) };
let conversation = newConversation();
const running = new Map(); // answer -> AbortController
let picture = null; // a data: URL

const columns = () => settings.models.slice(0, settings.compare ? 2 : 1);
const offer = (id) => offered.find((model) => model.id === id);

function tell(message) {
  notice.firstElementChild.textContent = message;
  notice.hidden = false;
}

notice.querySelector("button").onclick = () => (notice.hidden = true);

/** Asks before something is lost. */
function confirmed(heading, text) {
  const dialog = get("confirm");
  dialog.querySelector("h2").textContent = heading;
  dialog.querySelector("p").textContent = text;
  dialog.returnValue = "";
  for (const button of dialog.querySelectorAll("button")) button.onclick = () => dialog.close(button.value);
  dialog.showModal();
  return new Promise((resolve) => (dialog.onclose = () => resolve(dialog.returnValue === "yes")));
}

function askForKey(error) {
  const dialog = get("key");
  get("key-error").textContent = error;
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("input").focus();
}

get("key").querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, event.target.key.value.trim());
  event.target.key.value = "";
  loadModels();
};
