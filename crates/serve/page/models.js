// The choice of models, and the settings.

async function loadModels() {
  try {
    offered = await models();
    loadError = null;
    get("key").close();
  } catch (error) {
    if (error.status === 401) askForKey(sessionStorage.getItem(KEY) ? "The server did not accept this key." : "");
    // The server answers while its model is being loaded.
    if (error.status === 503) setTimeout(loadModels, 1000);
    loadError = error;
  }
  const ids = offered.map((model) => model.id);
  const adapted = (offered.find((model) => model.adapter) ?? offered[0])?.id;
  const first = ids.includes(settings.models[0]) ? settings.models[0] : adapted;
  const other = first === ids[0] ? adapted : ids[0];
  settings.models = first ? [first, ids.includes(settings.models[1]) ? settings.models[1] : other] : settings.models;
  for (const column of [0, 1]) {
    const select = get(`model-${column}`);
    select.replaceChildren(...ids.map((id) => make("option", { value: id }, id)));
    if (!ids.length) select.append(make("option", {}, "No model"));
    else select.value = settings.models[column];
    select.disabled = !ids.length;
    select.onchange = () => {
      settings.models[column] = select.value;
      settingsChanged();
    };
  }
  settingsChanged();
  if (!conversation.turns.length) show();
}

function settingsChanged() {
  get("second").hidden = !settings.compare;
  get("compare").hidden = offered.length < 2;
  get("compare").setAttribute("aria-pressed", settings.compare);
  document.documentElement.dataset.theme = settings.theme;
  document.body.classList.toggle("compare", settings.compare);
  for (const range of document.querySelectorAll("#settings [type=range]")) {
    range.parentElement.querySelector("output").textContent = Number(range.value).toFixed(2);
  }
  get("attach").hidden = !columns().some((id) => offer(id)?.seesImages);
  if (get("attach").hidden) setPicture(null);
  questionChanged();
  keep(() => localStorage.setItem(SETTINGS, JSON.stringify(settings)));
}

const form = get("settings").querySelector("form");
const fillForm = () => [...form.elements].forEach((field) => {
  if (field.type === "radio") field.checked = field.value === settings[field.name];
  else if (field.name) field.value = settings[field.name];
});
form.oninput = ({ target }) => {
  // A number that is out of bounds is not used.
  settings[target.name] = target.validity.valid ? target.value : DEFAULTS[target.name];
  settingsChanged();
};
form.onreset = (event) => {
  event.preventDefault();
  const { models, compare, theme } = settings;
  settings = { ...DEFAULTS, models, compare, theme };
  fillForm();
  settingsChanged();
};
form.onsubmit = (event) => event.preventDefault();

get("compare").onclick = () => compare(!settings.compare);

function compare(on) {
  settings.compare = on;
  settingsChanged();
  if (!conversation.turns.length) show();
}

/** The request for an answer of `column` to the last of `turns`. */
function request(model, turns, column) {
  const body = { model, messages: messages(turns, column, settings.system, offer(model)?.seesImages) };
  for (const name of SAMPLING) if (settings[name] !== "") body[name] = Number(settings[name]);
  const stop = settings.stop.split("\n").filter(Boolean);
  if (stop.length) body.stop = stop;
  return body;
}
