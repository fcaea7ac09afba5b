import json
import threading
from pathlib import Path
from typing import Any

import pytest

from nextn.errors import TemplateError
from nextn.text.chat_template import ChatTemplate

DATA = Path(__file__).parent / "data"
CONVERSATIONS: dict[str, dict[str, Any]] = json.loads((DATA / "conversations.json").read_text())
# Renderings by transformers; null where it refuses. See make_data.py.
RENDERED: dict[str, dict[str, str | None]] = json.loads((DATA / "rendered.json").read_text())
CASES = [(template, name) for template, cases in RENDERED.items() for name in cases]
HELLO = [{"role": "user", "content": "Hello"}]


def compiled(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>")


def rendered(source: str, **variables: Any) -> str:
    return compiled(source).render(HELLO, **variables)


@pytest.mark.parametrize(("template", "name"), CASES)
def test_prompts_are_those_of_transformers(template: str, name: str) -> None:
    chat = compiled((DATA / "templates" / f"{template}.jinja").read_text())
    conversation = CONVERSATIONS[name]
    expected = RENDERED[template][name]
    variables = conversation.get("variables", {})
    if expected is None:
        with pytest.raises(TemplateError):
            chat.render(conversation["messages"], **variables)
    else:
        assert chat.render(conversation["messages"], **variables) == expected


def test_the_sample_covers_every_template_and_conversation() -> None:
    assert {path.stem for path in (DATA / "templates").glob("*.jinja")} == RENDERED.keys()
    assert all(cases.keys() == CONVERSATIONS.keys() for cases in RENDERED.values())


def test_json_is_not_escaped_for_html_and_keeps_its_order() -> None:
    value = {"z": "<a & 'b'>", "a": ["é", 1.0, None]}
    assert rendered("{{ value | tojson }}", value=value) == json.dumps(value, ensure_ascii=False)


def test_formats_may_hold_any_plain_text() -> None:
    source = (
        "{{ '**%s** 100%% of 20240 %(x)s' % {'x': 7} }} {{ '{{2024}} {:*>5} 99999'.format(1) }}"
    )
    assert rendered(source.replace("%s", "")) == "**** 100% of 20240 7 {2024} ****1 99999"


def test_the_date_can_be_asked_for() -> None:
    assert len(rendered("{{ strftime_now('%d %b %Y') }}")) == 11


def test_what_the_template_refuses_is_the_error() -> None:
    with pytest.raises(TemplateError, match=r"^chat template, line 2: No system role, please$"):
        rendered("\n{{ raise_exception('No system\nrole, please') }}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% if x %}", "line 1: Unexpected end of template"),
        ("\n\n{{ 1 + }}", "line 3: "),
        ("{{ missing.name }}", "line 1: 'missing' is undefined"),
        ("{{ messages[0].content.name.first }}", "line 1: 'str object' has no attribute 'name'"),
        ("{{ 'a' + 1 }}", "line 1: can only concatenate str"),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
        ("{{ 'a' | urlize }}", "line 1: No filter named 'urlize'"),
        ("{% include 'x' %}", "line 1: the tag 'include' is not allowed"),
        ("{% autoescape true %}{% endautoescape %}", "the tag 'autoescape' is not allowed"),
        ("a" * 70_000, "has 70000 characters; at most 65536 are allowed"),
    ],
)
def test_errors_say_where_and_what(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=r"^chat template") as error:
        rendered(source)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_values_that_are_not_json_are_refused() -> None:
    with pytest.raises(TemplateError, match="type set was given to it; pass JSON values"):
        rendered("{{ x }}", x={1})
    nested: list[Any] = []
    nested.append(nested)
    with pytest.raises(TemplateError, match="nest more than 100 deep"):
        rendered("{{ x }}", x=nested)


def test_the_messages_are_left_as_they_were() -> None:
    messages = [{"role": "user", "content": "x", "list": [1]}]
    for source in ("{{ messages.append(1) }}", "{{ messages[0].update({'a': 1}) }}"):
        with pytest.raises(TemplateError):
            compiled(source).render(messages)
    assert messages == [{"role": "user", "content": "x", "list": [1]}]


def test_renderings_in_several_threads_do_not_mix() -> None:
    chat = compiled("{% for i in range(200) %}{{ messages[0].content }}{% endfor %}")
    results: dict[str, str] = {}

    def work(letter: str) -> None:
        results[letter] = chat.render([{"role": "user", "content": letter}])

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {letter: letter * 200 for letter in "abcd"}


def test_a_thousand_long_messages_are_well_within_the_limits() -> None:
    chat = compiled((DATA / "templates/qwen3.jinja").read_text())
    messages = [
        {"role": "user", "content": "x" * 2000},
        {"role": "assistant", "content": "y" * 500},
    ]
    assert len(chat.render(messages * 500)) > 1_250_000


def test_a_filter_block_may_make_something_else_than_text() -> None:
    assert rendered("a{% filter length %}four{% endfilter %}b") == "a4b"
    assert rendered("{% filter list %}ab{% endfilter %}") == "['a', 'b']"
