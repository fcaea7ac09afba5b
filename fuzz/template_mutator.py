"""Changes chat templates tag by tag, with expressions and statements from a small grammar."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

import atheris

_TAG = re.compile(r"(\{%.*?%\}|\{\{.*?\}\})", re.DOTALL)
_FILTERS = [
    *("abs", "attr('x')", "capitalize", "center(9)", "count", "default('d', true)", "dictsort"),
    *("dictsort(by='value')", "escape", "first", "float", "format(1, 2)", "groupby('role')"),
    *("indent", "int", "int(base=7)", "items", "join(', ')", "join(attribute='role')", "last"),
    *("length", "list", "lower", "map('upper')", "map(attribute='content')", "max", "min"),
    *("reject", "replace('a', 'bb')", "reverse", "round(2)", "round(-9, 'ceil')", "safe"),
    *("select('string')", "selectattr('role')", "selectattr('role', 'equalto', 'user')"),
    *("sort", "sort(attribute='role', reverse=true)", "string", "sum", "sum(start=[])"),
    *("title", "tojson", "tojson(indent=4)", "trim", "truncate(3)", "unique", "upper"),
    *("batch(2)", "slice(2)", "urlize", "wordcount", "xmlattr", "pprint", "random"),
]  # fmt: skip
_TESTS = [
    *("defined", "none", "string", "mapping", "iterable", "sequence", "number", "odd", "even"),
    *("callable", "divisibleby(0)", "in messages", "eq(1)", "sameas(none)", "lower", "escaped"),
    *("filter", "test"),
]  # fmt: skip
_METHODS = [
    *("split()", "split(',')", "strip()", "rstrip('\\n')", "format(1, a=2)", "join(x)"),
    *("items()", "keys()", "get('role')", "replace('', 'xx')", "count('a')", "index('a')"),
    *("upper()", "splitlines()", "startswith('a')", "rfind('a')", "rsplit('a', 1)"),
    *("zfill(99)", "center(50)", "append(1)", "update({})", "pop()", "encode()"),
    *("format_map({})", "translate({})", "__class__", "copy()", "title()", "partition('a')"),
    *("removeprefix('a')", "isdigit()", "values()", "_x", "expandtabs(99)", "clear()"),
]  # fmt: skip
_NAMES = [
    *("messages", "message", "tools", "bos_token", "eos_token", "add_generation_prompt", "x"),
    *("ns", "loop", "messages[0]", "messages[-1]['content']", "message.role", "ns.v"),
    *("loop.index", "loop", "self", "m", "range", "dict", "namespace", "cycler", "joiner"),
    *("caller", "varargs", "kwargs", "undefined_name"),
]  # fmt: skip
_LITERALS = [
    *("0", "1", "-1", "2.5", "1e308", "10**9", "'a'", "''", "'%s %d'", "'{0} {a!r:>9}'"),
    *("none", "true", "[]", "{}", "()", "[1, 'a', none]", "{'a': 1, 2: 'b'}", "(1, 2)"),
    *("99999999999", "'\\u2028'", "'%('"),
]  # fmt: skip
_OPERATORS = [
    *("+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">", "<=", ">=", "and", "or"),
    *("in", "not in"),
]  # fmt: skip


def expression(random: Random, depth: int = 3) -> str:
    """A random Jinja expression, mostly one that compiles."""

    def part() -> str:
        return expression(random, depth - 1)

    if depth <= 0:
        return random.choice([*_NAMES, *_LITERALS])
    forms: list[Callable[[], str]] = [
        lambda: random.choice(_NAMES),
        lambda: random.choice(_LITERALS),
        lambda: f"({part()} {random.choice(_OPERATORS)} {part()})",
        lambda: f"({part()} {random.choice(_OPERATORS)} {part()})",
        lambda: f"({part()} | {random.choice(_FILTERS)})",
        lambda: f"({part()} | {random.choice(_FILTERS)})",
        lambda: f"({part()}).{random.choice(_METHODS)}",
        lambda: f"({part()}).{random.choice(_METHODS)}",
        lambda: f"({part()} is {random.choice(['', 'not '])}{random.choice(_TESTS)})",
        lambda: f"({part()} if {part()} else {part()})",
        lambda: f"({part()})[{part()}]",
        lambda: f"({part()})[{part()}:{part()}:{random.choice(['', '-1', '2'])}]",
        lambda: f"[{part()}, {part()}]",
        lambda: "{" + f"{part()}: {part()}" + "}",
        lambda: f"{random.choice(_NAMES)}({part()})",
        lambda: f"range({part()}, {part()})",
        lambda: f"namespace(v={part()})",
        lambda: f"strftime_now({part()})",
        lambda: f"'{random.choice(['%s', '%9.3f', '%(a)s', '%c', '%%', '%x'])}' % {part()}",
    ]
    return random.choice(forms)()


def statement(random: Random, body: str) -> str:
    """A random statement around `body`."""
    value, argument = expression(random), expression(random)
    forms = [
        f"{{{{ {value} }}}}{body}",
        f"{{{{ {value} }}}}{body}",
        f"{{% set x = {value} %}}{body}",
        f"{{% set ns = namespace(v={value}) %}}{body}",
        f"{{% set ns.v = {value} %}}{body}",
        f"{{% set x, message = {value} %}}{body}",
        f"{{% set x %}}{body}{{% endset %}}{{{{ x }}}}",
        f"{{% if {value} %}}{body}{{% else %}}{{{{ {expression(random)} }}}}{{% endif %}}",
        f"{{% for message in {value} %}}{body}{{% endfor %}}",
        f"{{% for x in messages if {value} %}}{body}{{% else %}}b{{% endfor %}}",
        f"{{% for x in {value} recursive %}}{body}{{{{ loop(x) }}}}{{% endfor %}}",
        f"{{% for x in 'ab' %}}{body}{{% {random.choice(['break', 'continue'])} %}}{{% endfor %}}",
        f"{{% macro m(x, message={value}) %}}{body}{{% endmacro %}}{{{{ m({argument}) }}}}",
        f"{{% call m({value}) %}}{body}{{% endcall %}}",
        f"{{% filter {random.choice(_FILTERS)} %}}{body}{{% endfilter %}}",
        f"{{% generation %}}{body}{{% endgeneration %}}",
        f"{{% block b %}}{body}{{% endblock %}}{{{{ self.b() }}}}",
        f"{{% with x = {value} %}}{body}{{% endwith %}}",
        f"{{{{ raise_exception({value}) }}}}",
        f"{{% raw %}}{body}{{% endraw %}}",
        f"{{% include {value} %}}",
        f"{{#- {body} -#}}",
    ]
    return random.choice(forms)


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    """Insert, wrap, drop or double statements; sometimes change plain bytes."""
    random = Random(seed)
    if random.random() < 0.15:
        return bytes(atheris.Mutate(content, max_size))
    parts = [part for part in _TAG.split(content.decode("utf-8", "replace")) if part] or [""]
    start = random.randrange(len(parts))
    end = min(len(parts), start + random.choice([0, 1, 1, 2, 5]))
    middle = "".join(parts[start:end])
    match random.randrange(6):
        case 0:
            middle = ""
        case 1:
            middle *= 2
        case 2 if middle.startswith("{{"):
            middle = f"{{{{ {expression(random)} }}}}"
        case _:
            middle = statement(random, middle)
    changed = "".join([*parts[:start], middle, *parts[end:]]).encode()
    return changed if len(changed) <= max_size else content
