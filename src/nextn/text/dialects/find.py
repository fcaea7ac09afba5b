"""Which dialect a model speaks: told by the marks in its chat template."""

from __future__ import annotations

import re
from dataclasses import replace

from nextn.text.dialects.base import Dialect, ReasoningMarks
from nextn.text.dialects.gemma import GemmaCalls
from nextn.text.dialects.harmony import HarmonyCalls
from nextn.text.dialects.json_calls import BareCalls, JsonCalls
from nextn.text.dialects.named_calls import MistralCalls, SectionCalls
from nextn.text.dialects.parameter_calls import ParameterCalls

HERMES = Dialect("hermes", JsonCalls("<tool_call>", "</tool_call>", inner="\n"))
LLAMA3 = Dialect("llama3", BareCalls())
HARMONY = Dialect("harmony", HarmonyCalls())
NEMOTRON = Dialect("nemotron", JsonCalls("<TOOLCALL>", "</TOOLCALL>", listed=True))
PHI4_MINI = Dialect("phi4-mini", JsonCalls("<|tool_call|>", "<|/tool_call|>"))
MISTRAL = Dialect("mistral", MistralCalls(listed=False), ids="short")
MISTRAL_LIST = Dialect("mistral-list", MistralCalls(listed=True), ids="short")
GEMMA4 = Dialect(
    "gemma4",
    GemmaCalls("<|tool_call>", "<tool_call|>", '<|"|>'),
    ReasoningMarks("<|channel>thought", "<channel|>"),
)
FUNCTIONGEMMA = Dialect(
    "functiongemma",
    GemmaCalls("<start_function_call>", "<end_function_call>", "<escape>"),
)
DEEPSEEK_V3_1 = Dialect(
    "deepseek-v3.1",
    SectionCalls(
        section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        call=("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
        middle="<｜tool▁sep｜>",
    ),
)
DEEPSEEK_V3 = Dialect(
    "deepseek-v3",
    SectionCalls(
        section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        call=("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
        middle="<｜tool▁sep｜>",
        fenced=True,
    ),
)
DEEPSEEK_V3_2 = Dialect(
    "deepseek-v3.2",
    ParameterCalls(
        outer=("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
        call=('<｜DSML｜invoke name="', '">', "</｜DSML｜invoke>"),
        parameter=('<｜DSML｜parameter name="', '"', "", "</｜DSML｜parameter>"),
        per_call=False,
        typed=True,
    ),
)
KIMI_K2 = Dialect(
    "kimi-k2",
    SectionCalls(
        section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        call=("<|tool_call_begin|>", "<|tool_call_end|>"),
        middle="<|tool_call_argument_begin|>",
        numbered=True,
    ),
    ids="numbered",
)
MINIMAX_M2 = Dialect(
    "minimax-m2",
    ParameterCalls(
        outer=("<minimax:tool_call>", "</minimax:tool_call>"),
        call=('<invoke name="', '">', "</invoke>"),
        parameter=('<parameter name="', '">', "", "</parameter>"),
        per_call=False,
    ),
)
GLM = Dialect(
    "glm",
    ParameterCalls(
        outer=("<tool_call>", ""),
        call=("", "", "</tool_call>"),
        parameter=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    ),
)
QWEN3_CODER = Dialect(
    "qwen3-coder",
    ParameterCalls(
        outer=("<tool_call>", "</tool_call>"),
        call=("<function=", ">", "</function>"),
        parameter=("<parameter=", ">", "", "</parameter>"),
        line="\n",
        python=True,
    ),
)

_BY_MARK: tuple[tuple[str, Dialect], ...] = (
    ("<|channel|>", HARMONY),
    ("<|tool_call>", GEMMA4),
    ("<start_function_call>", FUNCTIONGEMMA),
    ("｜DSML｜", DEEPSEEK_V3_2),
    ("<｜tool▁calls▁begin｜>", DEEPSEEK_V3_1),
    ("<|tool_calls_section_begin|>", KIMI_K2),
    ("[ARGS]", MISTRAL),
    ("[TOOL_CALLS]", MISTRAL_LIST),
    ("<minimax:tool_call>", MINIMAX_M2),
    ("<arg_key>", GLM),
    ("<function=", QWEN3_CODER),
    ("<TOOLCALL>", NEMOTRON),
    ("<|tool_call|>", PHI4_MINI),
    ("<tool_call>", HERMES),
    ("<|python_tag|>", LLAMA3),
    ("Environment: ipython", LLAMA3),
)
"""Marks in templates and whose they are; the first that a template has decides."""

DIALECTS = (*dict.fromkeys(dialect for _, dialect in _BY_MARK), DEEPSEEK_V3)
"""All dialects."""

_REASONING = (
    ReasoningMarks("[THINK]", "[/THINK]"),
    ReasoningMarks("<think>", "</think>"),
)
_TOOLS = re.compile(r"\btools\b")


def find_dialect(template: str) -> Dialect:
    """The dialect of a model.

    Args:
        template: its chat template.

    Returns:
        What its marks tell. Without any, "hermes", which most models without a dialect of their own
        understand when the prompt explains it.
    """
    dialect = next((found for mark, found in _BY_MARK if mark in template), HERMES)
    if dialect is DEEPSEEK_V3_1 and "```json" in template:
        dialect = DEEPSEEK_V3
    reasoning = dialect.reasoning
    if reasoning is None and not dialect.calls.always:
        reasoning = next((each for each in _REASONING if each.end in template), None)
    return replace(dialect, reasoning=reasoning, lists_tools=bool(_TOOLS.search(template)))
