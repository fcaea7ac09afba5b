from __future__ import annotations

import json

import pytest

from nextn.text.dialects import CallArguments, Dialect, Tool, find_dialect
from nextn.text.dialects.base import ReasoningMarks
from nextn.text.dialects.find import (
    DEEPSEEK_V3,
    DEEPSEEK_V3_1,
    FUNCTIONGEMMA,
    GEMMA4,
    GLM,
    HARMONY,
    HERMES,
    KIMI_K2,
    LLAMA3,
    MISTRAL,
    NEMOTRON,
    PHI4_MINI,
    QWEN3_CODER,
)
from tests.text.dialects.parsing import Parsed, parse

ROME = [("get_weather", {"city": "Rome"})]
ARGUMENTS = '{"city": "Rome"}'
CALL = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (HERMES, '<tool_call>{"name":"get_weather","arguments":{"city":"Rome"}}</tool_call>'),
        (
            HERMES,
            f'<tool_call>\n{{"arguments": {ARGUMENTS}, "name": "get_weather"}}\n</tool_call>',
        ),
        (HERMES, f"<tool_call>[{CALL}]</tool_call>"),
        (HERMES, f"<tool_call>\n{CALL}"),
        (NEMOTRON, f"<TOOLCALL>[{CALL}]</TOOLCALL>"),
        (PHI4_MINI, f"<|tool_call|>{CALL}"),
        (LLAMA3, '{"name": "get_weather", "parameters": {"city": "Rome"}}'),
        (
            LLAMA3,
            '<|python_tag|>{"type": "function", "name": "get_weather", '
            '"parameters": {"city": "Rome"}}',
        ),
        (
            MISTRAL,
            f'[TOOL_CALLS] [{CALL[:-1]}, "id": "a"}}]',
        ),
        (MISTRAL, '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}'),
        (MISTRAL, '[TOOL_CALLS]get_weather[CALL_ID]abcDEF123[ARGS]{"city": "Rome"}'),
        (MISTRAL, '[TOOL_CALLS]get_weather{"city": "Rome"}'),
        (
            DEEPSEEK_V3_1,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
            '{"city": "Rome"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        ),
        (
            DEEPSEEK_V3,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "Rome"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        ),
        (
            KIMI_K2,
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
            '<|tool_call_argument_begin|>{"city": "Rome"}<|tool_call_end|>'
            "<|tool_calls_section_end|>",
        ),
        (
            GLM,
            "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Rome</arg_value></tool_call>",
        ),
        (QWEN3_CODER, "<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>"),
        (
            QWEN3_CODER,
            "<tool_call><function=get_weather><parameter=city>Rome</parameter></function>",
        ),
        (GEMMA4, '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>}<tool_call|>'),
        (
            FUNCTIONGEMMA,
            "<start_function_call>call:get_weather{city:<escape>Rome<escape>}<end_function_call>",
        ),
        (HARMONY, ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Rome"}'),
        (
            HARMONY,
            "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
            '{"city": "Rome"}<|call|>',
        ),
    ],
)
def test_calls_in_the_forms_that_models_write(dialect: Dialect, text: str) -> None:
    parsed = parse(dialect, list(text))
    assert parsed.values == ROME
    assert parsed.text == ""


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (HERMES, "<tool_call>\nhello\n</tool_call>"),
        (HERMES, 'Write <tool_call>{"name": ""}</tool_call>.'),
        (HERMES, '<tool_call>{"name": "now", "arguments": []}</tool_call>'),
        (HERMES, "a <tool_call"),
        (LLAMA3, '{"name": "unknown", "parameters": {}}'),
        (LLAMA3, '{"answer": 1}'),
        (LLAMA3, 'Call {"name": "now", "parameters": {}}'),
        (MISTRAL, "[TOOL_CALLS]"),
        (MISTRAL, "[TOOL_CALLS]now and then"),
        (GLM, "<tool_call>get the weather</tool_call>"),
        (QWEN3_CODER, "<function=unknown>\n</function>"),
        (GEMMA4, "<|tool_call>now<tool_call|>"),
        (HARMONY, "Hello <b>you</b>"),
    ],
)
def test_what_is_no_call_is_text(dialect: Dialect, text: str) -> None:
    parsed = parse(dialect, list(text))
    assert not parsed.calls
    assert parsed.text == text


def test_text_before_calls_loses_the_space_between_them() -> None:
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    parsed = parse(HERMES, f"Let me look.\n\n{call}\n{call}\n")
    assert parsed.text == "Let me look."
    assert parsed.values == [("now", {}), ("now", {})]
    assert parse(HERMES, f"{call} Done. ").text == " Done. "


def test_arguments_are_handed_out_as_they_come() -> None:
    parser = HERMES.parser([Tool("now")])
    parser.push('<tool_call>\n{"name": "now", "arguments": {"a": "x')
    deltas = parser.push("yz")
    assert deltas == [CallArguments(0, "yz", "yz")]
    strings = QWEN3_CODER.parser(
        [Tool("now", "", {"type": "object", "properties": {"a": {"type": "string"}}})]
    )
    strings.push("<tool_call>\n<function=now>\n<parameter=a>\n")
    assert strings.push('say "hi"') == [CallArguments(0, 'say \\"hi\\"', 'say "hi"')]


def test_a_call_that_breaks_off_is_not_complete() -> None:
    parsed = parse(HERMES, '<tool_call>\n{"name": "now", "arguments": {"a": [1, tru')
    (call,) = parsed.calls
    assert (call.arguments, call.complete) == ('{"a": [1, ', False)
    assert parsed.text == "tru"


def test_what_follows_broken_arguments_is_text() -> None:
    parsed = parse(
        HERMES, '<tool_call>{"name": "now", "arguments": {"a": oops}}</tool_call> Sorry.'
    )
    (call,) = parsed.calls
    assert call.complete is False
    assert parsed.text == "oops}}</tool_call> Sorry."


def test_a_broken_end_is_no_text() -> None:
    parsed = parse(HERMES, '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_')
    assert parsed.values == [("now", {})]
    assert parsed.text == ""


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3", 3),
        ("True", True),
        ("[1, 2.5]", [1, 2.5]),
        ('{"a": null}', {"a": None}),
        ("None", None),
        ("about 3", "about 3"),
        ("NaN", "NaN"),
    ],
)
def test_values_between_tags_are_json_or_else_text(written: str, value: object) -> None:
    text = f"<function=now>\n<parameter=a>\n{written}\n</parameter>\n</function>"
    assert parse(QWEN3_CODER, text).values == [("now", {"a": value})]


def test_a_schema_says_that_a_value_is_a_string() -> None:
    text = "<function=get_weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n12\n"
    text += "</parameter>\n</function>"
    assert parse(QWEN3_CODER, text).values == [("get_weather", {"city": "12", "days": 12})]


def test_an_end_tag_within_a_value_is_part_of_it() -> None:
    value = "<b>\n</parameter> is a tag\n</b>"
    text = f"<function=get_weather>\n<parameter=city>\n{value}\n</parameter>\n</function>"
    assert parse(QWEN3_CODER, list(text)).values == [("get_weather", {"city": value})]


THINK = find_dialect("<think></think> tools <tool_call>")


@pytest.mark.parametrize(
    ("text", "opening", "reasoning", "answer"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "", "Hm.", "Yes."),
        ("\n<think>Hm.</think>Yes.", "", "Hm.", "Yes."),
        ("Hm.\n</think>\n\nYes.", "assistant\n<think>\n", "Hm.", "Yes."),
        ("<think>\nHm.\n</think>\nYes.", "<think>", "Hm.", "Yes."),
        ("Hm.\n", "<think>\n", "Hm.\n", ""),
        ("\n\nYes.", "<think>\n\n</think>\n\n", "", "\n\nYes."),
        ("<think>\n\n</think>\n\nYes.", "", "", "Yes."),
        ("Yes, <think>.", "", "", "Yes, <think>."),
        ("  ", "", "", "  "),
    ],
)
def test_reasoning_comes_first(text: str, opening: str, reasoning: str, answer: str) -> None:
    for pieces in (text, list(text)):
        parsed = parse(THINK, pieces, opening=opening)
        assert (parsed.reasoning, parsed.text) == (reasoning, answer)
        assert parsed.source == text


def test_reasoning_text_and_calls_follow_each_other() -> None:
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    parsed = parse(THINK, list(f"<think>Time?</think>\nI look.\n{call}"))
    assert parsed.kinds == ["Reasoning", "Text", "CallBegin", "CallArguments", "CallEnd"]


def test_channels_of_harmony() -> None:
    text = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>"
        "I look.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>"
    )
    for tools in ((), (Tool("now"),)):
        parsed = parse(HARMONY, list(text), tools=tools)
        assert (parsed.reasoning, parsed.text) == ("Hm.", "I look.Yes.")


def test_thoughts_of_gemma() -> None:
    parsed: Parsed = parse(GEMMA4, list("<|channel>thought\nHm.\n<channel|>Yes."))
    assert (parsed.reasoning, parsed.text) == ("Hm.", "Yes.")
    assert isinstance(GEMMA4.reasoning, ReasoningMarks)


def test_keys_of_calls_may_be_in_the_arguments() -> None:
    arguments = {"name": "x", "arguments": {"a": "}"}}
    text = json.dumps({"name": "now", "arguments": arguments, "id": 3})
    assert parse(HERMES, f"<tool_call>{text}</tool_call>").values == [("now", arguments)]
