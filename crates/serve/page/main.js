// The last of the scripts: everything above is defined, so the page can start.

fillForm();
settingsChanged();
conversation = savedConversation(location.hash.slice(1)) ?? conversation;
show();
scroll.scrollTop = scroll.scrollHeight;
loadModels();
question.focus();