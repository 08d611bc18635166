"""The chat page in Chromium: what people do with it, and what must not happen."""

import base64
import json
import struct
import zlib

import pytest
from axe_playwright_python.sync_playwright import Axe

from conftest import KEY
from program import Cut, Held

QUESTION = "Say what Ada does for a living."
MARKDOWN = """Sorting takes *one* line.

```rust
names.sort_by_key(|name| name.len()); // by a key of your choice, which is computed again for each comparison of two items
```

| method | memory |
|:--|--:|
| `sort` | n / 2 |

> Measure first.

1. See [the docs](https://doc.rust-lang.org).
"""
NOT_FOUND = "Failed to load resource"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def greedy(tab):
    """The likeliest answer, which is the same each time."""
    set_option(tab, "temperature", "0")


def set_option(tab, name, value):
    tab.page.click("#settings-button")
    tab.page.fill(f"#settings [name={name}]", value)
    tab.page.press("#settings h2 ~ button", "Escape")


def answer_of(server, model, question):
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "top_p": 0.95}
    status, text = server.post("/v1/chat/completions", body)
    assert status == 200, text
    return json.loads(text)["choices"][0]["message"]["content"].strip()


def model_ids(server):
    return [model["id"] for model in json.loads(server.get("/v1/models"))["data"]]


# --- Asking


def test_the_page_offers_the_models_of_the_server(server, tab):
    page = tab(server.url).page
    assert page.locator("#model-0 option").all_inner_texts() == model_ids(server)
    # An adapter comes first, because people want to try it.
    assert ":" in page.input_value("#model-0")
    assert page.evaluate("document.activeElement.id") == "question"


def test_a_question_gets_the_answer_of_the_model(server, tab):
    tab = tab(server.url)
    greedy(tab)
    tab.ask(QUESTION)
    assert tab.texts(".text") == [answer_of(server, tab.page.input_value("#model-0"), QUESTION)]
    assert "tokens" in tab.page.inner_text(".answer footer")
    assert tab.page.input_value("#question") == ""


def test_an_example_is_asked_with_one_click(server, tab):
    tab = tab(server.url)
    example = tab.page.locator("#empty li button").first
    text = example.inner_text()
    example.click()
    tab.wait()
    assert tab.texts(".bubble") == [text]
    assert tab.texts(".text") != [""]


def test_an_answer_is_shown_while_it_grows(proxy, tab):
    held = Held()
    proxy.answers["hold"] = [["One *two*", " three.\n\nFo", held]]
    tab = tab(proxy.url)
    tab.page.fill("#question", "hold")
    tab.page.press("#question", "Enter")
    tab.page.wait_for_selector(".text em")
    tab.page.wait_for_selector(".text:has-text('Fo')")
    assert tab.page.is_visible("#stop")
    held.given_up.set()
    tab.errors.clear()


def test_stop_ends_the_request_and_keeps_the_text(proxy, tab):
    for stop in (lambda page: page.click("#stop"), lambda page: page.keyboard.press("Escape")):
        held = Held()
        proxy.answers["hold"] = [["Some text", held]]
        opened = tab(proxy.url)
        opened.page.fill("#question", "hold")
        opened.page.press("#question", "Enter")
        opened.page.wait_for_selector(".text:has-text('Some text')")
        stop(opened.page)
        opened.wait()
        assert held.given_up.wait(10), "the server still sends"
        assert opened.texts(".text") == ["Some text"]
        assert "stopped" in opened.page.inner_text(".answer footer")
        assert opened.page.evaluate("document.activeElement.id") == "question"


def test_two_models_answer_side_by_side(server, tab):
    tab = tab(server.url)
    greedy(tab)
    tab.page.click("#compare")
    tab.ask(QUESTION)
    models = [tab.page.input_value("#model-0"), tab.page.input_value("#model-1")]
    assert sorted(models) == sorted(model_ids(server)[:2])
    assert tab.texts(".answer h3") == models
    saved = json.loads(tab.page.evaluate("Object.entries(localStorage).find(([key]) => key.includes('conversation'))[1]"))
    texts = [answer["text"].strip() for answer in saved["turns"][0]["answers"]]
    assert texts == [answer_of(server, model, QUESTION) for model in models]
    # Further down, the shorter answer moves along to stay in view.
    tab.page.evaluate("document.getElementById('scroll').scrollTop = 0")
    left, right = (box.bounding_box() for box in tab.page.locator(".answer").all())
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]


def test_each_column_continues_its_own_conversation(proxy, tab):
    proxy.answers = {"first": [["A"], ["B"]], "second": [["C"]]}
    tab = tab(proxy.url)
    tab.page.click("#compare")
    tab.ask("first")
    tab.ask("second")
    said = dict(zip([request["model"] for request in proxy.requests[:2]], tab.texts(".turn:first-child .text")))
    for request in proxy.requests[2:]:
        # Which of the two answers came first is left open.
        assert request["messages"][1]["content"] in ("A", "B")
    assert len({request["messages"][1]["content"] for request in proxy.requests[2:]}) == 2
    assert set(said.values()) == {"A", "B"}


def test_the_settings_are_sent(proxy, tab):
    proxy.answers["q"] = [["a"]]
    tab = tab(proxy.url)
    values = {"system": "Be brief.", "temperature": "0.5", "top_k": "7", "repetition_penalty": "1.1", "max_tokens": "9", "seed": "3", "stop": "x\ny"}
    for name, value in values.items():
        set_option(tab, name, value)
    tab.ask("q")
    request = proxy.requests[0]
    expected = {"temperature": 0.5, "top_p": 0.95, "top_k": 7, "repetition_penalty": 1.1, "max_tokens": 9, "seed": 3, "stop": ["x", "y"]}
    assert {name: request.get(name) for name in expected} == expected
    assert request["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]
    tab.page.click("#settings-button")
    tab.page.click("#settings [type=reset]")
    tab.page.press("#settings [type=reset]", "Escape")
    tab.ask("q")
    assert "seed" not in proxy.requests[1] and proxy.requests[1]["temperature"] == 0.7


def test_a_setting_out_of_range_is_marked_and_not_sent(proxy, tab):
    proxy.answers["q"] = [["a"]]
    tab = tab(proxy.url)
    set_option(tab, "max_tokens", "-3")
    assert not tab.page.evaluate("document.querySelector('#settings [name=max_tokens]').validity.valid")
    tab.ask("q")
    assert "max_tokens" not in proxy.requests[0]


# --- Again, differently


def test_retry_replaces_the_answer(proxy, tab):
    proxy.answers["q"] = [["first"], ["second"]]
    tab = tab(proxy.url)
    tab.ask("q")
    tab.page.click("[aria-label='Answer again']")
    tab.wait()
    assert tab.texts(".text") == ["second"]
    assert [len(request["messages"]) for request in proxy.requests] == [1, 1]


def test_an_edited_question_is_asked_again_and_what_followed_is_removed(proxy, tab):
    proxy.answers = {"one": [["1"]], "two": [["2"]], "three": [["3"]]}
    tab = tab(proxy.url)
    tab.ask("one")
    tab.ask("two")
    tab.page.hover(".question >> nth=0")
    tab.page.click(".question >> nth=0 >> [aria-label='Edit the question']")
    assert "What follows this question will be removed." in tab.page.inner_text(".edit")
    tab.page.fill(".edit textarea", "three")
    tab.page.press(".edit textarea", "Enter")
    tab.wait()
    assert tab.texts(".bubble") == ["three"]
    assert tab.texts(".text") == ["3"]
    assert proxy.requests[2]["messages"] == [{"role": "user", "content": "three"}]


def test_an_edit_can_be_left(proxy, tab):
    proxy.answers["one"] = [["1"]]
    tab = tab(proxy.url)
    tab.ask("one")
    tab.page.hover(".question")
    tab.page.click("[aria-label='Edit the question']")
    tab.page.fill(".edit textarea", "else")
    tab.page.press(".edit textarea", "Escape")
    assert tab.texts(".bubble") == ["one"]
    assert tab.texts(".text") == ["1"]


# --- Saved conversations


def test_a_conversation_is_there_after_a_reload(proxy, tab):
    proxy.answers = {"one": [["**1**"]], "two": [["2"]]}
    tab = tab(proxy.url)
    tab.ask("one")
    tab.ask("two")
    tab.page.reload()
    tab.page.wait_for_selector(".text strong")
    tab.wait()
    assert tab.texts(".bubble") == ["one", "two"]
    assert tab.texts(".text") == ["1", "2"]


def test_an_unfinished_answer_is_there_after_a_reload(proxy, tab):
    held = Held()
    proxy.answers["hold"] = [["Some text", held]]
    tab = tab(proxy.url)
    tab.page.fill("#question", "hold")
    tab.page.press("#question", "Enter")
    tab.page.wait_for_selector(".text:has-text('Some text')")
    tab.page.reload()
    tab.wait()
    assert tab.texts(".bubble") == ["hold"]
    assert tab.texts(".text") == ["Some text"]


def test_conversations_are_listed_and_opened(proxy, tab):
    proxy.answers = {"one": [["1"]], "two": [["2"]]}
    tab = tab(proxy.url)
    tab.ask("one")
    tab.page.click("#new")
    assert tab.page.is_visible("#empty")
    tab.ask("two")
    assert tab.texts("#list .open") == ["two", "one"]
    tab.page.click("#list .open >> nth=1")
    tab.wait()
    assert tab.texts(".text") == ["1"]
    assert tab.page.locator("#list [aria-current=true]").inner_text() == "one"


def test_conversations_are_exported(proxy, tab):
    proxy.answers = {"one": [["1"]], "two": [["2"]]}
    tab = tab(proxy.url)
    tab.ask("one")
    tab.page.click("#new")
    tab.ask("two")

    def exported(click):
        with tab.page.expect_download() as download:
            click()
        return json.loads(download.value.path().read_text())["conversations"]

    everything = exported(lambda: tab.page.click("#export-all"))
    assert [[turn["question"] for turn in conversation["turns"]] for conversation in everything] == [["two"], ["one"]]
    assert everything[0]["turns"][0]["answers"][0]["text"] == "2"
    tab.page.hover("#list li >> nth=1")
    single = exported(lambda: tab.page.click("#list li >> nth=1 >> [aria-label^=Export]"))
    assert [conversation["title"] for conversation in single] == ["one"]


def test_one_conversation_is_deleted_after_a_question(proxy, tab):
    proxy.answers = {"one": [["1"]], "two": [["2"]]}
    tab = tab(proxy.url)
    tab.ask("one")
    tab.page.click("#new")
    tab.ask("two")
    for button, left in (("Cancel", ["two", "one"]), ("Delete", ["one"])):
        tab.page.hover("#list li >> nth=0")
        tab.page.click("#list li >> nth=0 >> [aria-label^=Delete]")
        tab.page.click(f"#confirm button:has-text('{button}')")
        tab.page.wait_for_selector("#confirm", state="hidden")
        assert tab.texts("#list .open") == left
    assert tab.page.is_visible("#empty")
    tab.page.reload()
    assert tab.texts("#list .open") == ["one"]


def test_all_conversations_are_deleted(proxy, tab):
    proxy.answers = {"one": [["1"]], "two": [["2"]]}
    tab = tab(proxy.url)
    tab.ask("one")
    tab.page.click("#new")
    tab.ask("two")
    tab.page.click("#delete-all")
    tab.page.click("#confirm button:has-text('Delete')")
    tab.page.wait_for_selector("#confirm", state="hidden")
    assert tab.texts("#list .open") == []
    assert tab.page.evaluate("Object.keys(localStorage)") == ["llama-adapter.settings"]


def test_a_full_storage_is_told(proxy, tab):
    proxy.answers["one"] = [["1"]]
    tab = tab(proxy.url)
    tab.page.evaluate(
        """() => {
            let size = 1 << 20;
            for (let i = 0; size >= 1; i++) {
                try { localStorage.setItem(`filler ${i}`, "x".repeat(size)); } catch { size >>= 1; }
            }
        }"""
    )
    tab.ask("one")
    assert "storage is full" in tab.page.inner_text("#notice")
    assert tab.texts(".text") == ["1"]


# --- Answers that are not harmless


def test_html_in_an_answer_stays_text(proxy, tab):
    bad = '<img src=x onerror="window.hit = 1">\n\n<script>window.hit = 2</script>\n\n[click](javascript:window.hit=3)'
    proxy.answers["bad"] = [[bad]]
    tab = tab(proxy.url)
    tab.ask("bad")
    assert '<img src=x onerror="window.hit = 1">' in tab.page.inner_text(".text")
    assert "<script>window.hit = 2</script>" in tab.page.inner_text(".text")
    assert tab.page.locator(".text :is(img, script, [href])").count() == 0
    tab.page.click(".text >> text=click")
    assert tab.page.evaluate("window.hit") is None


def test_html_in_a_question_or_a_title_stays_text(proxy, tab):
    bad = '<img src=x onerror="window.hit = 1">'
    proxy.answers[bad] = [["fine"]]
    tab = tab(proxy.url)
    tab.ask(bad)
    tab.page.reload()
    tab.wait()
    assert tab.texts(".bubble") == [bad]
    assert tab.texts("#list .open") == [bad]
    assert tab.page.evaluate("window.hit") is None


def test_the_browser_refuses_scripts_that_are_not_the_pages(server, tab):
    tab = tab(server.url)
    tab.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.hit = 1";
            document.body.append(script);
        }"""
    )
    assert tab.page.evaluate("window.hit") is None
    assert any("Content Security Policy" in error for error in tab.errors), tab.errors
    tab.errors.clear()


def test_markdown_is_formatted_and_code_can_be_copied(proxy, tab):
    proxy.answers["markdown"] = [[MARKDOWN]]
    tab = tab(proxy.url, permissions=["clipboard-read", "clipboard-write"])
    tab.ask("markdown")
    for selector, text in ((".text em", "one"), (".text th", "method"), (".text blockquote", "Measure first."), (".language", "rust")):
        assert tab.page.locator(selector).first.inner_text() == text
    assert tab.page.get_attribute(".text a", "target") == "_blank"
    tab.page.click("[aria-label='Copy the code']")
    assert tab.page.evaluate("navigator.clipboard.readText()").startswith("names.sort_by_key(")


# --- Failures


def test_an_error_of_the_server_is_shown_and_can_be_tried_again(proxy, tab):
    proxy.answers["busy"] = [{"status": 429, "message": "The queue is full."}, ["done"]]
    tab = tab(proxy.url)
    tab.ask("busy")
    assert "The queue is full." in tab.page.inner_text(".problem")
    tab.page.click("text=Try again")
    tab.wait()
    assert tab.texts(".text") == ["done"]
    assert not tab.page.is_visible(".problem")
    assert all(NOT_FOUND in error for error in tab.errors)
    tab.errors.clear()


@pytest.mark.parametrize("end, message", [({"message": "The engine failed."}, "The engine failed."), (Cut, "The connection ended")])
def test_an_answer_that_breaks_off_keeps_its_text_and_tells_why(proxy, tab, end, message):
    proxy.answers["q"] = [["Half an", end]]
    tab = tab(proxy.url)
    tab.ask("q")
    assert tab.texts(".text") == ["Half an"]
    assert message in tab.page.inner_text(".problem")


def test_a_server_that_is_gone_is_told(proxy, tab):
    tab = tab(proxy.url)
    tab.page.route("**/v1/chat/completions", lambda route: route.abort())
    tab.page.fill("#question", "q")
    tab.page.press("#question", "Enter")
    tab.page.wait_for_selector(".problem:visible")
    assert "cannot be reached" in tab.page.inner_text(".problem")
    tab.errors.clear()


def test_a_server_with_keys_asks_for_one(server_with_key, browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(server_with_key.url)
    page.wait_for_selector("#key[open]")
    page.fill("#key input", "wrong")
    page.press("#key input", "Enter")
    page.wait_for_selector("#key-error:has-text('did not accept')")
    page.fill("#key input", KEY)
    page.press("#key input", "Enter")
    page.wait_for_selector("#model-0:enabled")
    assert not page.is_visible("#key")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector(".answer footer:visible")
    # It is kept for this tab alone.
    assert KEY not in page.evaluate("JSON.stringify(localStorage)")
    page.reload()
    page.wait_for_selector("#model-0:enabled")
    context.close()


# --- Images


def png(width, height):
    """A picture with noise, which does not compress."""
    rows = b"".join(b"\0" + bytes((x * y * 37 + x * 7 + y * 13) % 251 for x in range(width * 3)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def seeing(proxy):
    """The proxy, with an adapter that sees images."""
    proxy.models = [
        {"id": "llama", "object": "model", "created": 0, "owned_by": "x", "sees_images": False},
        {"id": "llama:eyes", "object": "model", "created": 0, "owned_by": "x", "parent": "llama", "sees_images": True},
    ]
    proxy.answers["again"] = [["yes"]]
    return proxy


def test_an_image_is_sent_to_a_model_that_sees(seeing, tab):
    tab = tab(seeing.url)
    picture = png(20, 10)
    tab.page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": picture})
    tab.page.wait_for_selector("#picture img")
    tab.page.route("**/v1/chat/completions", lambda route: route.abort())
    with tab.page.expect_request("**/v1/chat/completions") as sent:
        tab.page.fill("#question", "What is this?")
        tab.page.press("#question", "Enter")
    image, text = sent.value.post_data_json["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    kind, data = image["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64" and base64.b64decode(data) == picture
    assert tab.page.is_visible(".bubble img") and not tab.page.is_visible("#picture")
    tab.page.wait_for_selector(".problem:visible")
    tab.errors.clear()


def test_a_large_image_is_made_smaller(seeing, tab):
    tab = tab(seeing.url)
    tab.page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(2000, 500)})
    tab.page.wait_for_selector("#picture img")
    size = tab.page.evaluate("async () => { const i = document.querySelector('#picture img'); await i.decode(); return [i.naturalWidth, i.naturalHeight]; }")
    assert size == [1024, 256]


def test_a_file_that_is_no_image_is_told(seeing, tab):
    tab = tab(seeing.url)
    tab.page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    tab.page.wait_for_selector("#notice:visible")
    assert "a.png is not an image" in tab.page.inner_text("#notice")


def test_images_are_offered_only_where_the_model_sees(seeing, tab):
    page = tab(seeing.url).page
    assert page.is_visible("#attach")
    page.select_option("#model-0", "llama")
    assert not page.is_visible("#attach")


# --- Everyone can use it


def violations(page):
    """What axe finds, as lines: labels, contrast, roles, names, focus."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_axe_finds_nothing_wrong_and_pictures_are_taken(proxy, tab, screenshots, scheme, size):
    proxy.answers = {"How do I sort?": [[MARKDOWN]], "busy": [{"status": 429, "message": "The queue is full."}]}
    tab = tab(proxy.url, color_scheme=scheme, reduced_motion="reduce", **(PHONE if size == "phone" else {}))
    page = tab.page

    def look(name):
        # Colors fade from one to another.
        page.wait_for_timeout(200)
        page.screenshot(path=screenshots / f"{scheme}-{size}-{name}.png")
        assert violations(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], name

    look("empty")
    tab.ask("How do I sort?")
    look("answer")
    page.click("#compare")
    tab.ask(QUESTION)
    look("compare")
    tab.ask("busy")
    look("error")
    page.click("#settings-button")
    look("settings")
    page.keyboard.press("Escape")
    if size == "phone":
        page.click("header [popovertarget=conversations]")
        look("conversations")
    page.click("#delete-all")
    look("confirm")
    page.click("#confirm button:has-text('Cancel')")
    page.keyboard.press("Escape")
    page.hover(".question >> nth=0")
    page.click(".question >> nth=0 >> [aria-label='Edit the question']")
    look("edit")
    tab.errors.clear()


def test_axe_finds_nothing_wrong_where_a_key_is_asked_for(server_with_key, browser, screenshots):
    context = browser.new_context()
    page = context.new_page()
    page.goto(server_with_key.url)
    page.wait_for_selector("#key[open]")
    page.screenshot(path=screenshots / "light-wide-key.png")
    assert violations(page) == []
    context.close()


def test_the_theme_can_be_chosen(server, tab):
    page = tab(server.url, color_scheme="light").page

    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    page.click("#settings-button")
    page.check("[name=theme][value=dark]", force=True)
    assert background() != light
    page.reload()
    assert background() != light


def test_columns_stand_below_each_other_on_a_phone(proxy, tab):
    proxy.answers["q"] = [["1"]]
    tab = tab(proxy.url, **PHONE)
    tab.page.click("#compare")
    tab.ask("q")
    first, second = (box.bounding_box() for box in tab.page.locator(".answer").all())
    assert first["x"] == second["x"] and first["y"] + first["height"] <= second["y"]


def test_all_of_it_works_by_keyboard(proxy, tab):
    proxy.answers = {"a\nb": [["1"], ["2"]]}
    tab = tab(proxy.url)
    page = tab.page

    def tab_to(label):
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText")
            if focused.strip() == label:
                return
        raise AssertionError(f"{label} is not reached")

    page.keyboard.type("a")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("b")
    page.keyboard.press("Enter")
    tab.wait()
    assert tab.texts(".text") == ["1"]
    tab_to("Skip to the message field")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "question"
    tab_to("Answer again")
    page.keyboard.press("Enter")
    tab.wait()
    assert tab.texts(".text") == ["2"]
    tab_to("Delete “a b”")
    page.keyboard.press("Enter")
    tab_to("Delete")
    page.keyboard.press("Enter")
    page.wait_for_selector("#confirm", state="hidden")
    assert tab.texts("#list .open") == []


def test_answers_are_read_to_screen_readers_by_sentences(proxy, tab):
    held = Held()
    proxy.answers["q"] = [["The first sentence. The se", "cond one. The th", held]]
    tab = tab(proxy.url)
    tab.page.fill("#question", "q")
    tab.page.press("#question", "Enter")
    tab.page.wait_for_selector("#spoken:has-text('cond one.')")
    assert "The th" not in tab.page.text_content("#spoken")
    tab.page.keyboard.press("Escape")
    tab.wait()
    spoken = tab.page.locator("#spoken p").all_text_contents()
    model = tab.page.input_value("#model-0")
    assert spoken[0].startswith(f"{model}: The first sentence.")
    assert spoken[-2:] == ["The th", "Stopped."]
    assert tab.page.get_attribute("#spoken", "aria-live") == "polite"
