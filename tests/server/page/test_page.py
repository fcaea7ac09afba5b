"""The page in a real browser: against a server that follows a script, and against a real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nextn.server.security import make_security
from tests.server.conftest import RunningServer, spec
from tests.server.page.conftest import OpenPage, until
from tests.support.chat_server import Script
from tests.support.tiny_gguf import TinyHead, write_tiny_model

DRAFTED = (
    (("Two", "trunk"),),
    ((" words", "head"), (" and", "head"), (" more", "trunk")),
    ((" copied", "suffix"), (".", "trunk")),
    (("{", "grammar"), ("}", "trunk")),
)
TEXT = "Two words and more copied.{}"


def send(page: Any, text: str, *, wait: bool = True) -> None:
    page.fill("#prompt", text)
    page.keyboard.press("Enter")
    if wait:
        finished(page)


def begun(
    open_page: OpenPage, url: str, script: Script, text: str = "Hello?"
) -> tuple[Any, threading.Event]:
    """A page whose answer has its first word, and what lets the rest of it come."""
    hold = threading.Event()
    script.steps, script.hold = DRAFTED, hold
    page = open_page(url)
    send(page, text, wait=False)
    until(page, "document.querySelector('.answer')?.innerText === 'Two'")
    return page, hold


def finished(page: Any) -> None:
    page.wait_for_selector("#send:not([hidden])")


def answers(page: Any) -> list[str]:
    return list(page.locator(".message.assistant .answer").all_inner_texts())


def said(page: Any) -> list[str]:
    return list(page.locator(".message.user .said").all_inner_texts())


def test_an_answer_is_shown_while_it_is_written(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page, hold = begun(open_page, url, script)
    article = page.locator(".message.assistant")
    assert article.get_attribute("aria-busy") == "true"
    assert page.locator("#stop").is_visible()
    hold.set()
    finished(page)
    assert answers(page) == [TEXT]
    assert article.get_attribute("aria-busy") == "false"
    assert page.locator("#status").inner_text() == "The answer is complete."
    assert page.locator(".conversation-link").all_inner_texts() == ["Hello?"]
    assert page.title() == "Hello? · nextn"
    (request,) = script.requests
    assert request["messages"] == [{"role": "user", "content": "Hello?"}]
    assert (request["model"], request["mtp"], request["stream"]) == ("tiny", "auto", True)
    assert "seed" not in request
    assert "temperature" not in request


def test_a_second_question_goes_with_what_was_said_before(
    open_page: OpenPage, url: str, script: Script
) -> None:
    script.reasoning = "Let me think."
    page = open_page(url)
    send(page, "One")
    send(page, "Two")
    # What a model thought is not said to it again.
    assert script.requests[1]["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Two"},
    ]
    reasoning = page.locator("details.reasoning").first
    assert reasoning.get_attribute("open") is None
    reasoning.locator("summary").click()
    assert "Let me think." in reasoning.inner_text()


@pytest.mark.parametrize("how", ["button", "key"])
def test_stopping_ends_the_answer_at_the_server_too(
    open_page: OpenPage, url: str, script: Script, how: str
) -> None:
    page, hold = begun(open_page, url, script)
    if how == "button":
        page.click("#stop")
    else:
        page.keyboard.press("Escape")
    finished(page)
    assert answers(page) == ["Two"]
    assert page.locator(".ended").inner_text() == "Stopped."
    for _ in range(3000):
        if script.cancelled:
            break
        page.wait_for_timeout(20)
    assert script.cancelled == 1
    hold.set()
    send(page, "And now?")
    assert answers(page) == ["Two", TEXT]


def test_an_answer_is_written_again(open_page: OpenPage, url: str, script: Script) -> None:
    page = open_page(url)
    send(page, "Hello?")
    script.steps = ((("Another", "trunk"),),)
    page.get_by_label("Write the answer again").click()
    finished(page)
    assert answers(page) == ["Another"]
    assert script.requests[0]["messages"] == script.requests[1]["messages"]
    page.keyboard.press("Alt+KeyR")
    finished(page)
    assert len(script.requests) == 3


def test_editing_a_message_takes_back_what_followed(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page = open_page(url)
    send(page, "One")
    send(page, "Two")
    page.locator(".message.user").first.hover()
    page.get_by_label("Edit the message").first.click()
    area = page.locator(".edit textarea")
    assert area.input_value() == "One"
    area.press("Escape")
    assert said(page) == ["One", "Two"]
    page.get_by_label("Edit the message").first.click()
    area.fill("Other\nlines")
    area.press("Enter")
    finished(page)
    assert said(page) == ["Other\nlines"]
    assert script.requests[-1]["messages"] == [{"role": "user", "content": "Other\nlines"}]
    assert page.locator(".conversation-link").all_inner_texts() == ["Other"]


def test_editing_while_an_answer_is_written_begins_a_new_one(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page, hold = begun(open_page, url, script, "One")
    page.locator(".message.user").hover()
    page.get_by_label("Edit the message").click()
    hold.set()
    page.locator(".edit textarea").fill("Another")
    page.locator(".edit textarea").press("Enter")
    until(page, "document.querySelector('.said')?.innerText === 'Another'")
    finished(page)
    assert (said(page), answers(page)) == (["Another"], [TEXT])


def test_conversations_outlive_a_reload(open_page: OpenPage, url: str, script: Script) -> None:
    script.steps = DRAFTED
    page = open_page(url)
    send(page, "First")
    page.click("#new-chat")
    assert page.locator("#welcome").is_visible()
    send(page, "Second")
    page.reload()
    titles = page.locator(".conversation-link")
    assert titles.all_inner_texts() == ["Second", "First"]
    assert said(page) == ["Second"]
    titles.nth(1).click()
    assert (said(page), answers(page)) == (["First"], [TEXT])
    page.click("#show-origins")
    assert page.locator('.answer .token[data-origin="head"]').all_inner_texts() == [
        " words",
        " and",
    ]
    send(page, "More")
    assert page.locator(".conversation-link").first.inner_text() == "First"


def test_what_was_written_before_a_reload_is_kept(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page, hold = begun(open_page, url, script)
    page.reload()
    hold.set()
    page.wait_for_selector(".answer")
    assert answers(page) == ["Two"]


def test_a_deleted_conversation_can_be_taken_back(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page = open_page(url)
    send(page, "Hello?")
    page.get_by_label("Delete “Hello?”").click()
    assert page.locator(".conversation-link").count() == 0
    assert page.evaluate("Object.keys(localStorage).filter((k) => k.includes('chat')).length") == 0
    page.get_by_role("button", name="Undo").click()
    assert said(page) == ["Hello?"]
    page.reload()
    assert said(page) == ["Hello?"]
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#open-settings")
    page.click("#delete-all")
    page.reload()
    assert page.locator(".conversation-link").count() == 0


def test_a_conversation_that_is_deleted_while_it_is_written_stays_deleted(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page, hold = begun(open_page, url, script)
    page.get_by_label("Delete “Hello?”").click()
    for _ in range(3000):
        if script.cancelled:
            break
        page.wait_for_timeout(20)
    hold.set()
    send(page, "Another")
    page.reload()
    assert page.locator(".conversation-link").all_inner_texts() == ["Another"]


def test_another_tab_shows_what_was_said_in_this_one(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page = open_page(url)
    other = page.context.new_page()
    other.goto(url)
    send(page, "Hello?")
    until(other, "document.querySelectorAll('.conversation-link').length === 1")
    other.locator(".conversation-link").click()
    assert answers(other) == ["Hello"]
    send(page, "More")
    until(other, "document.querySelectorAll('.answer').length === 2")


def test_without_storage_the_page_still_works(
    open_page: OpenPage, url: str, script: Script
) -> None:
    page = open_page(url)
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } })"
    )
    page.reload()
    send(page, "Hello?")
    assert answers(page) == ["Hello"]
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.click("#new-chat")
    page.locator(".conversation-link").click()
    assert said(page) == ["Hello?"]


def test_code_and_answers_are_copied(open_page: OpenPage, url: str, script: Script) -> None:
    text = "See:\n```py\nx = 1\n```"
    script.steps = (((text, "trunk"),),)
    page = open_page(url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    send(page, "Hello?")
    read = "navigator.clipboard.readText()"
    page.get_by_label("Copy the code").click()
    page.locator(".code .icon use[href='#i-check']").wait_for(state="attached")
    assert page.evaluate(read) == "x = 1"
    page.get_by_label("Copy the answer").click()
    page.locator(".actions .icon use[href='#i-check']").wait_for(state="attached")
    assert page.evaluate(read) == text


def test_conversations_are_exported_and_imported(
    open_page: OpenPage, url: str, script: Script, tmp_path: Path
) -> None:
    script.steps = DRAFTED
    page = open_page(url)
    page.evaluate("localStorage.setItem('nextn.settings', JSON.stringify({ api_key: 'secret' }))")
    page.reload()
    send(page, "Hello?")
    with page.expect_download() as started:
        page.click("#export")
    path = tmp_path / "exported.json"
    started.value.save_as(path)
    assert "secret" not in path.read_text()
    record = json.loads(path.read_text())
    assert record["conversations"][0]["messages"][1]["content"] == TEXT

    other = open_page(url)
    other.set_input_files("#import-file", path)
    other.wait_for_selector(".toast")
    assert (said(other), answers(other)) == (["Hello?"], [TEXT])
    other.set_input_files("#import-file", path)  # again: beside the first, not over it
    until(other, "document.querySelectorAll('.conversation-link').length === 2")


def _export(*messages: object) -> str:
    chat = {"id": "a", "title": "t", "updated": 1, "messages": messages}
    return json.dumps({"format": "nextn-conversations", "conversations": [chat]})


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        '{"format": "nextn-conversations"}',
        '{"format": "nextn-conversations", "conversations": [null]}',
        _export({"role": "system", "content": "x"}),
        _export({"role": "assistant", "content": "x", "reasoning": "", "tokens": [[1]]}),
    ],
)
def test_a_file_that_is_no_export_changes_nothing(
    open_page: OpenPage, url: str, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    page = open_page(url)
    page.set_input_files("#import-file", path)
    page.wait_for_selector(".toast")
    assert page.locator(".conversation-link").count() == 0
    page.reload()
    assert page.locator("#welcome").is_visible()


def test_broken_entries_in_the_browser_do_no_harm(open_page: OpenPage, url: str) -> None:
    page = open_page(url)
    page.evaluate(
        "localStorage.setItem('nextn.settings', '{'); localStorage.setItem('other', 'x');"
        "for (const bad of ['null', '{', '3', '{\"id\": 1}'])"
        " localStorage.setItem(`nextn.chat.${bad}`, bad)"
    )
    with page.expect_navigation():
        page.evaluate("location.reload()")
    send(page, "Hello?")
    assert answers(page) == ["Hello"]


def test_tokens_are_told_apart_by_more_than_colour(
    open_page: OpenPage, url: str, script: Script
) -> None:
    script.steps = DRAFTED
    page = open_page(url)
    send(page, "Hello?")
    page.keyboard.press("Alt+KeyT")
    assert page.locator("#show-origins").get_attribute("aria-pressed") == "true"
    tokens = page.locator(".answer .token")
    flat = [pair for step in DRAFTED for pair in step]
    assert tokens.all_inner_texts() == [text for text, _ in flat]
    found = tokens.evaluate_all("(all) => all.map((one) => one.dataset.origin)")
    assert found == [origin for _, origin in flat]
    lines = tokens.evaluate_all(
        "(all) => all.map((one) => { const s = getComputedStyle(one);"
        " return [one.dataset.origin, s.textDecorationLine + ' ' + s.textDecorationStyle]; })"
    )
    assert len({line for _, line in lines}) == len({origin for origin, _ in lines}) == 4
    starts = tokens.evaluate_all("(all) => all.map((one) => one.classList.contains('step-start'))")
    assert starts == [n == 0 for step in DRAFTED for n in range(len(step))]
    assert page.locator(".message .legend li").count() == 4


def test_the_panel_has_the_figures_of_the_answer(
    open_page: OpenPage, url: str, script: Script
) -> None:
    script.steps = DRAFTED
    page = open_page(url, viewport={"width": 1400, "height": 900})
    send(page, "Hello?")
    figures = page.locator("#panel .figures").inner_text().split("\n")
    assert "20.0" in figures  # eight tokens in the 400 ms that the server says
    assert "2.00" in figures  # in four steps
    shares = page.locator("#panel .legend li").all_inner_texts()
    assert [share.split("\n")[-1] for share in shares] == ["50%", "25%", "13%", "13%"]
    chart = page.locator("#panel svg.chart").get_attribute("aria-label")
    assert chart is not None
    assert chart.endswith("position 1: 75% of 8; position 2: 50% of 3")
    page.keyboard.press("Alt+KeyP")
    assert page.locator("#panel").is_hidden()


def test_both_ways_are_compared_with_one_seed(
    open_page: OpenPage, url: str, script: Script
) -> None:
    script.steps = DRAFTED
    page = open_page(url)
    page.keyboard.press("Alt+KeyC")
    send(page, "Hello?")
    with_mtp, without = script.requests
    assert (with_mtp.pop("mtp"), without.pop("mtp")) == ("auto", "off")
    assert with_mtp == without
    assert isinstance(with_mtp["seed"], int)
    assert answers(page) == [TEXT, TEXT]
    verdict = page.locator(".verdict")
    assert verdict.get_attribute("data-equal") == "true"
    # Four steps against eight, at 100 ms each.
    assert "2.00× faster with MTP: 0.40 s instead of 0.80 s" in verdict.inner_text().replace(
        "\n", " "
    )
    page.reload()
    assert page.locator(".verdict").get_attribute("data-equal") == "true"


def test_texts_that_differ_are_said_to_differ(
    open_page: OpenPage, url: str, script: Script
) -> None:
    script.steps = DRAFTED
    script.plain = ((("Two", "trunk"),), ((" wolves", "trunk"),))
    page = open_page(url)
    page.click("#compare")
    send(page, "Hello?")
    verdict = page.locator(".verdict")
    assert verdict.get_attribute("data-equal") == "false"
    assert "The texts differ from character 7 on" in verdict.inner_text()


def test_settings_are_sent_and_kept(open_page: OpenPage, url: str, script: Script) -> None:
    page = open_page(url)
    page.keyboard.press("Alt+Comma")
    for name, value in {
        "system": "Be brief.", "temperature": "0.7", "top_p": "0.9", "top_k": "40", "min_p": "0",
        "max_tokens": "12", "seed": "5", "api_key": " key ",
    }.items():  # fmt: skip
        page.fill(f"#settings-form [name={name}]", value)
    page.select_option("#settings-form [name=mtp]", "3")
    page.get_by_role("button", name="Save").click()
    page.reload()
    page.select_option("#model", "other")
    send(page, "Hello?")
    request = script.requests[0]
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    expected = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0, "max_tokens": 12}
    assert expected.items() <= request.items()
    assert (request["seed"], request["mtp"], request["model"]) == (5, 3, "other")
    page.reload()
    until(page, "document.getElementById('model').value === 'other'")


def test_a_value_out_of_range_is_not_saved(open_page: OpenPage, url: str, script: Script) -> None:
    page = open_page(url)
    page.click("#open-settings")
    page.fill("#settings-form [name=top_p]", "1.5")
    page.get_by_role("button", name="Save").click()
    assert page.locator("#settings-dialog").is_visible()
    page.keyboard.press("Escape")
    send(page, "Hello?")
    assert "top_p" not in script.requests[0]


def test_a_key_is_asked_for_and_sent(open_page: OpenPage, url: str, script: Script) -> None:
    script.api_key = "right"
    page = open_page(url)
    page.wait_for_selector("#notice:not([hidden])")
    assert "API key" in page.locator("#notice").inner_text()
    page.click("#open-settings")
    page.fill("#settings-form [name=api_key]", "right")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('model').options.length === 2")
    assert page.locator("#notice").is_hidden()


def test_errors_are_shown_with_the_answer(open_page: OpenPage, url: str, script: Script) -> None:
    script.error = (400, "messages: <b>too long</b>")
    page = open_page(url)
    send(page, "Hello?")
    assert page.locator(".failure").inner_text() == "messages: <b>too long</b>"
    script.error = None
    page.get_by_label("Write the answer again").click()
    finished(page)
    assert page.locator(".failure").count() == 0
    assert answers(page) == ["Hello"]


def test_what_a_model_writes_is_never_run(open_page: OpenPage, url: str, script: Script) -> None:
    bad = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    text = f"# {bad}\n\n{bad}\n\n```html\n{bad}\n```\n\n[x](javascript:window.hacked=1) ![y](http://evil.example/y.png)"
    script.steps = (((text, "trunk"),),)
    script.reasoning = bad
    page = open_page(url)
    page.keyboard.press("Alt+KeyC")
    send(page, bad)
    page.keyboard.press("Alt+KeyT")
    page.keyboard.press("Alt+KeyT")
    page.reload()
    assert page.evaluate("window.hacked") is None
    assert page.locator("#messages img, #messages script").count() == 0
    assert (
        page.locator("#messages a").evaluate_all("(all) => all.map((a) => a.href)")
        == ["http://evil.example/y.png"] * 2
    )
    assert bad in page.locator(".answer").first.inner_text()


def test_the_keyboard_is_enough(open_page: OpenPage, url: str, script: Script) -> None:
    page = open_page(url)
    keys = page.keyboard
    keys.type("a")
    keys.press("Shift+Enter")
    keys.type("b")
    assert page.locator("#prompt").input_value() == "a\nb"
    assert not script.requests
    keys.press("Enter")
    finished(page)
    assert said(page) == ["a\nb"]
    keys.press("ArrowUp")
    keys.press("Control+A")
    keys.type("c")
    keys.press("Enter")
    finished(page)
    assert said(page) == ["c"]
    keys.press("Enter")  # nothing is written
    assert len(script.requests) == 2
    keys.press("Alt+Slash")
    assert page.locator("#shortcuts-dialog").is_visible()
    keys.press("Escape")
    keys.press("Alt+KeyN")
    assert page.locator("#welcome").is_visible()
    assert page.evaluate("document.activeElement.id") == "prompt"
    # Wherever Tab leads, the focus can be seen.
    seen = set()
    for _ in range(40):
        keys.press("Tab")
        name, outline = page.evaluate(
            "() => { const one = document.activeElement; const s = getComputedStyle(one);"
            " return [one.id || one.className || one.tagName,"
            " one.id === 'prompt' ? '2px' : s.outlineStyle === 'none' ? '' : s.outlineWidth]; }"
        )
        seen.add(name)
        assert outline or name == "BODY", name
    assert {"new-chat", "model", "compare", "open-settings", "conversation-link"} <= seen


def test_everything_has_a_name_for_a_screen_reader(
    open_page: OpenPage, url: str, script: Script
) -> None:
    script.steps, script.reasoning = DRAFTED, "Thoughts"
    page = open_page(url, viewport={"width": 1400, "height": 900})
    page.click("#compare")
    send(page, "Hello?")
    nameless = page.evaluate(
        """
        () => [...document.querySelectorAll("button, input, select, textarea, [role], nav, dialog")]
          .filter((one) => !(one.getAttribute("aria-label") || one.getAttribute("aria-labelledby")
            || one.labels?.length || one.innerText?.trim() || one.type === "file" || one.title
            || ["status", "alert"].includes(one.getAttribute("role"))))
          .map((one) => one.outerHTML)
        """
    )
    assert nameless == []
    assert page.locator("#messages").get_attribute("role") == "log"
    assert page.locator("html").get_attribute("lang") == "en"
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_nothing_is_wider_than_the_screen(
    open_page: OpenPage, url: str, script: Script, width: int
) -> None:
    table = "|" + "column|" * 12 + "\n|" + "-|" * 12
    script.steps = (((f"```\n{'x' * 300}\n```\n\n{'y' * 300}\n\n{table}\n", "trunk"),),)
    page = open_page(url, viewport={"width": width, "height": 700})
    page.click("#compare")
    send(page, "z" * 300)
    for selector in ("html", "#scroller", "#composer", ".bar"):
        wide = page.locator(selector).evaluate("(one) => one.scrollWidth - one.clientWidth")
        assert wide <= 0, selector


def test_on_a_phone_the_list_opens_and_closes(open_page: OpenPage, url: str) -> None:
    page = open_page(url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    send(page, "Hello?")
    assert page.locator("#sidebar").is_hidden()
    page.tap("#open-sidebar")
    page.wait_for_selector("#sidebar", state="visible")
    assert page.evaluate("document.activeElement.id") == "close-sidebar"
    assert page.locator("#open-sidebar").get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    page.wait_for_selector("#sidebar", state="hidden")
    assert page.evaluate("document.activeElement.id") == "open-sidebar"
    page.tap("#show-panel")
    assert page.locator("#panel").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#panel").is_hidden()
    page.tap("#open-sidebar")
    page.tap("#new-chat")
    page.wait_for_selector("#sidebar", state="hidden")
    assert page.locator("#welcome").is_visible()


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_is_the_systems_until_another_is_chosen(
    open_page: OpenPage, url: str, system: str
) -> None:
    page = open_page(url, color_scheme=system)
    other = {"light": "dark", "dark": "light"}[system]
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == system
    page.emulate_media(color_scheme=other)
    until(page, f"{theme} === '{other}'")
    page.click("#theme")
    assert page.evaluate(theme) == system
    page.reload()
    assert page.evaluate(theme) == system


def test_the_page_needs_no_key_but_what_it_asks_does(tiny_path: Path) -> None:
    security = make_security(host="127.0.0.1", keys=["a-long-enough-key"])
    with RunningServer([spec(tiny_path)], security=security) as server:
        assert server.get("/").status_code == 200
        assert server.get("/page/main.js").status_code == 200
        assert server.get("/v1/models").status_code == 401
        assert server.get("/page/none.js").status_code in (401, 404)


@pytest.fixture
def real_url(browser: Any, tmp_path: Path) -> Iterator[str]:
    """A real server, with a model whose head predicts what it would write itself."""
    path = tmp_path / "headed.gguf"
    write_tiny_model(path, "llama", layers=1, head=TinyHead(noise=0.0))
    with RunningServer([spec(path, context=512)]) as server:
        yield f"{server.url}/"


def test_a_real_server_writes_the_same_text_with_and_without_drafts(
    open_page: OpenPage, real_url: str
) -> None:
    page = open_page(real_url, viewport={"width": 1400, "height": 900})
    until(page, "document.getElementById('model').value === 'tiny'")
    page.keyboard.press("Alt+Comma")
    page.fill("#settings-form [name=temperature]", "1")
    page.fill("#settings-form [name=max_tokens]", "48")
    page.select_option("#settings-form [name=mtp]", "3")
    page.get_by_role("button", name="Save").click()
    page.click("#compare")
    page.click("#show-origins")
    send(page, "Write.")
    assert page.locator(".failure").count() == 0
    assert page.locator(".verdict").get_attribute("data-equal") == "true"
    drafted, plain = page.locator(".side").all()
    assert drafted.locator('.answer .token[data-origin="head"]').count() > 5
    assert plain.locator('.answer .token:not([data-origin="trunk"])').count() == 0
    assert drafted.locator(".answer .token").count() == plain.locator(".answer .token").count()
    chart = page.locator("#panel svg.chart").get_attribute("aria-label")
    assert chart is not None
    assert "position 1: 100%" in chart


def test_a_real_server_stops_when_the_page_does(open_page: OpenPage, real_url: str) -> None:
    page = open_page(real_url)
    until(page, "document.getElementById('model').value === 'tiny'")
    page.keyboard.press("Alt+Comma")
    page.fill("#settings-form [name=max_tokens]", "400")
    page.get_by_role("button", name="Save").click()
    send(page, "Write.", wait=False)
    page.keyboard.press("Escape")
    finished(page)
    send(page, "Again.")
    assert page.locator(".message.assistant").count() == 2
    assert page.locator(".failure").count() == 0
