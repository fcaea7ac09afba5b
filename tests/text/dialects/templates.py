"""The parts of published chat templates that write calls, each reduced to what tells them apart."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parents[1] / "data" / "templates"

_CHATML = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{%- set call = call.function %}CALL
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_QWEN3_CODER = """
<tool_call>
<function={{ call.name }}>
{% for key, value in call.arguments | items %}<parameter={{ key }}>
{% set whole = value is mapping or (value is sequence and value is not string) -%}
{{ value | tojson if whole else value | string }}
</parameter>
{% endfor %}</function>
</tool_call>"""

_GLM = """
<tool_call>{{ call.name }}
{% for key, value in call.arguments.items() %}<arg_key>{{ key }}</arg_key>
<arg_value>{{ value if value is string else value | tojson }}</arg_value>
{% endfor %}</tool_call>"""

_MINIMAX = """
<minimax:tool_call>
<invoke name="{{ call.name }}">
{% for key, value in call.arguments | items %}\
<parameter name="{{ key }}">{{ value if value is string else value | tojson }}</parameter>
{% endfor %}</invoke>
</minimax:tool_call>"""

_DSML = """
<｜DSML｜function_calls>
<｜DSML｜invoke name="{{ call.name }}">
{% for key, value in call.arguments | items %}\
<｜DSML｜parameter name="{{ key }}" string="{{ 'true' if value is string else 'false' }}">\
{{ value if value is string else value | tojson }}</｜DSML｜parameter>
{% endfor %}</｜DSML｜invoke>
</｜DSML｜function_calls>"""

_DEEPSEEK_V3 = (
    "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>' "
    "+ call.name + '\\n```json\\n' + call.arguments + '\\n```' "
    "+ '<｜tool▁call▁end｜><｜tool▁calls▁end｜>' }}"
)
_DEEPSEEK_V3_1 = (
    "{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' "
    "+ call.name + '<｜tool▁sep｜>' + call.arguments + '<｜tool▁call▁end｜><｜tool▁calls▁end｜>' }}"
)
_KIMI = (
    "<|tool_calls_section_begin|><|tool_call_begin|>{{ message.tool_calls[loop.index0].id }}"
    "<|tool_call_argument_begin|>{{ call.arguments | tojson }}<|tool_call_end|>"
    "<|tool_calls_section_end|>"
)
_NEMOTRON = """
<TOOLCALL>[{"name": "{{ call.name }}", "arguments": {{ call.arguments | tojson }}}]</TOOLCALL>"""
_MISTRAL = "[TOOL_CALLS]{{ call.name }}[ARGS]{{ call.arguments | tojson }}"
_HARMONY = (
    "<|channel|>commentary to=functions.{{ call.name }} <|constrain|>json<|message|>"
    "{{ call.arguments | tojson }}<|call|>"
)

GEMMA4 = """\
{%- macro written(value) -%}
{%- if value is string -%}{{ '<|"|>' + value + '<|"|>' }}
{%- elif value is mapping -%}
{%- for key, each in value | dictsort %}\
{{- '{' if loop.first }}{{ key }}:{{ written(each) }}{{ '}' if loop.last else ',' -}}
{%- endfor %}{{ '{}' if not value }}
{%- elif value is boolean or value is number or value is none -%}{{ value | tojson }}
{%- else -%}\
[{% for each in value %}{{ written(each) }}{{ ',' if not loop.last }}{% endfor %}]
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{{- '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' -}}
{%- for call in message.tool_calls or [] -%}
{{- '<|tool_call>call:' + call.function.name + written(call.function.arguments) + '<tool_call|>' -}}
{%- endfor -%}
{%- for each in message.tool_responses or [] -%}
{{- '<|tool_response>response:' + each.name + written(each.response) + '<tool_response|>' -}}
{%- endfor -%}
{{- message.content -}}
{{- '<turn|>\\n' if not message.tool_responses -}}
{%- endfor -%}
{{- '<|turn>model\\n' if add_generation_prompt -}}"""

TEMPLATES = {
    "qwen3-coder": _CHATML.replace("CALL", _QWEN3_CODER),
    "glm": _CHATML.replace("CALL", _GLM),
    "minimax-m2": _CHATML.replace("CALL", _MINIMAX),
    "deepseek-v3.2": _CHATML.replace("CALL", _DSML),
    "deepseek-v3": _CHATML.replace("CALL", _DEEPSEEK_V3),
    "deepseek-v3.1": _CHATML.replace("CALL", _DEEPSEEK_V3_1),
    "kimi-k2": _CHATML.replace("CALL", _KIMI),
    "nemotron": _CHATML.replace("CALL", _NEMOTRON),
    "mistral": _CHATML.replace("CALL", _MISTRAL),
    "harmony": _CHATML.replace("CALL", _HARMONY),
    "gemma4": GEMMA4,
    "hermes": (_DATA / "qwen3.jinja").read_text(),
    "llama3": (_DATA / "llama3.jinja").read_text(),
    "mistral-list": (_DATA / "mistral.jinja").read_text(),
}
"""Templates by the name of their dialect."""

PLAIN = (_DATA / "smollm2.jinja").read_text()
"""A template that knows no tools."""
