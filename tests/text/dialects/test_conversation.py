from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from nextn.errors import TemplateError
from nextn.text.chat_template import ChatTemplate
from nextn.text.dialects import find_dialect
from nextn.text.dialects.conversation import find_abilities, prepare_conversation
from nextn.text.dialects.find import DIALECTS
from tests.text.dialects.parsing import NOW, TOOLS, WEATHER, parse
from tests.text.dialects.templates import GEMMA4, PLAIN, TEMPLATES

USER = {"role": "user", "content": "What about Rome?"}
ARGUMENTS = {"city": "Rome", "days": 3, "detailed": True, "hours": [1.5, 2], "options": {"a": "b"}}


def call(name: str, arguments: Any, identity: str = "call_0001") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": identity, "type": "function", "function": function}


def prompt(source: str, messages: list[dict[str, Any]], tools: Any = (), **options: Any) -> str:
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>")
    dialect = find_dialect(source)
    before = copy.deepcopy(messages)
    prepared = prepare_conversation(messages, tools, dialect, find_abilities(template))
    assert messages == before
    return template.render(prepared, tools=list(tools) or None, **options)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("as_json", [False, True])
def test_calls_that_a_template_writes_are_read(name: str, as_json: bool) -> None:
    source = TEMPLATES[name]
    dialect = find_dialect(source)
    assert dialect.name == name
    given = json.dumps(ARGUMENTS) if as_json else ARGUMENTS
    answer = {"role": "assistant", "content": None, "tool_calls": [call("get_weather", given)]}
    before = prompt(source, [USER], add_generation_prompt=True)
    after = prompt(source, [USER, answer], add_generation_prompt=False)
    if not after.startswith(before):  # the template opens the answer in another way
        before = prompt(source, [USER], add_generation_prompt=False)
    written = after[len(before) :]
    for end in ("<|im_end|>", "<|eot_id|>", "</s>", "<turn|>"):
        written = written.partition(end)[0]
    written = written.removeprefix("<|start_header_id|>assistant<|end_header_id|>\n\n")
    assert parse(dialect, list(written)).values == [("get_weather", ARGUMENTS)]


def test_each_dialect_has_a_template_but_those_with_a_relative() -> None:
    relatives = {"functiongemma": "gemma4", "phi4-mini": "hermes"}
    assert {each.name for each in DIALECTS} == TEMPLATES.keys() | relatives.keys()


@pytest.mark.parametrize(
    ("source", "abilities"),
    [
        (TEMPLATES["hermes"], (True, True, True, False)),
        (TEMPLATES["deepseek-v3"], (True, False, True, False)),
        (GEMMA4, (True, True, True, True)),
        (PLAIN, (False, False, True, False)),
    ],
)
def test_what_a_template_can_write_is_tried_out(source: str, abilities: tuple[bool, ...]) -> None:
    found = find_abilities(ChatTemplate(source, bos_token="<s>", eos_token="</s>"))
    assert (found.calls, found.object_arguments, found.results, found.responses) == abilities


def test_tools_that_a_template_does_not_list_are_in_the_system_message() -> None:
    functions = [tool.as_function() for tool in TOOLS]
    text = prompt(PLAIN, [{"role": "system", "content": "Be brief."}, USER], functions)
    assert "<|im_start|>system\nBe brief.\n\nYou can use tools." in text
    assert json.dumps(functions[0]["function"]) in text
    assert text.count("<|im_start|>system") == 1
    alone = prompt(PLAIN, [USER], functions)
    assert alone.startswith("<|im_start|>system\nYou can use tools.")
    # The example in it is a call.
    example = alone.partition("wait for the result:\n")[2].partition("<|im_end|>")[0]
    assert parse(find_dialect(PLAIN), example).values == [("TOOL", {"PARAMETER": "VALUE"})]
    assert "You can use tools" not in prompt(TEMPLATES["hermes"], [USER], functions)


def test_calls_and_results_that_a_template_cannot_write_are_text() -> None:
    calls = [call("get_weather", {"city": "Rome"}), call("now", "{}")]
    messages = [
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_0001", "content": "Sunny."},
        {"role": "tool", "tool_call_id": "call_0002", "content": "Noon."},
    ]
    text = prompt(PLAIN, messages)
    answer = text.partition("<|im_start|>assistant\n")[2].partition("<|im_end|>")[0]
    parsed = parse(find_dialect(PLAIN), answer, tools=(WEATHER, NOW))
    assert parsed.text == "I look."
    assert parsed.values == [("get_weather", {"city": "Rome"}), ("now", {})]
    results = (
        "<|im_start|>user\n<tool_response>\nSunny.\n</tool_response>\n"
        "<tool_response>\nNoon.\n</tool_response><|im_end|>"
    )
    assert results in text


def test_ids_are_those_that_a_template_takes() -> None:
    source = (
        "[TOOL_CALLS]{% for message in messages %}{% for call in message.tool_calls or [] %}"
        "{% if call.id | length != 9 %}{{ raise_exception('bad id') }}{% endif %}"
        "{{ call.id }}:{{ call.function.name }}{{ call.function.arguments | tojson }};"
        "{% endfor %}{{ message.tool_call_id }}{{ message.content }}{% endfor %}"
    )
    messages = [
        {"role": "assistant", "tool_calls": [call("now", {}, "call_abcdefghijkl")]},
        {"role": "tool", "tool_call_id": "call_abcdefghijkl", "content": "noon"},
    ]
    written = prompt(source, messages)
    identity = written.removeprefix("[TOOL_CALLS]")[:9]
    assert written == f"[TOOL_CALLS]{identity}:now{{}};{identity}noon"
    kept = [{"role": "assistant", "tool_calls": [call("now", {}, "abcDEF123")]}]
    assert "abcDEF123:now" in prompt(source, kept)


def test_numbered_ids_count_the_calls() -> None:
    source = TEMPLATES["kimi-k2"]
    messages = [
        {"role": "assistant", "tool_calls": [call("now", {}, "a")]},
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
        {"role": "assistant", "tool_calls": [call("now", {}, "b")]},
    ]
    written = prompt(source, messages)
    assert "functions.now:0<|tool_call_argument_begin|>" in written
    assert "functions.now:1<|tool_call_argument_begin|>" in written


def test_results_are_put_beside_calls_where_a_template_wants_them_there() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call("now", {}, "a")]},
        {"role": "tool", "tool_call_id": "a", "content": '{"hour": 12}'},
    ]
    written = prompt(GEMMA4, messages)
    expected = (
        "<|tool_call>call:now{}<tool_call|><|tool_response>response:now{hour:12}<tool_response|>"
    )
    assert expected in written


def test_arguments_that_are_no_object_are_the_templates_problem() -> None:
    messages = [{"role": "assistant", "tool_calls": [call("now", "[oops")]}]
    with pytest.raises(TemplateError):
        prompt(TEMPLATES["qwen3-coder"], messages)
    assert "[oops" in prompt(TEMPLATES["deepseek-v3"], messages)
