"""Hostile templates: each must be refused in bounded time and memory, from any thread."""

import threading
import time
import tracemalloc
from functools import partial

import pytest

from nextn.errors import TemplateError
from nextn.text import chat_template
from nextn.text.chat_template import ChatTemplate
from nextn.text.template_limits import MAX_BYTES, metered

SECONDS = 0.2
"""The limit on time in these tests."""

NS = "{% set ns = namespace(s='ab', l=[1], m=[1], t=(1,), i=3, d={}) %}"


def doubling(statement: str) -> str:
    return NS + "{% for i in range(60) %}" + statement + "{% endfor %}"


LISTS = doubling("{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}")
TUPLES = doubling("{% set ns.t = (ns.t, ns.t) %}")
BIG = "{% set big = 'a' * 4000000 %}"

SLOW = {
    "huge range": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": (
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
    ),
    "filtered loops": (
        "{% for i in range(90000) %}{% for j in range(90000) if j < 0 %}{% endfor %}{% endfor %}"
    ),
    "macro that calls itself twice": (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}"
    ),
    "endless macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "endless recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "endless block": "{% block b %}{{ self.b() }}{% endblock %}",
    "power": "{{ 2 ** (2 ** 40) }}",
    "repeated squares": doubling("{% set ns.i = ns.i * ns.i %}"),
    "chained generators": "{{ range(90000)" + " | select" * 150 + " | list }}",
    "comparison of long texts": (
        BIG + "{% set other = big ~ 'b' %}{% for i in range(90000) %}{{ big ~ 'a' == other }}"
        "{% endfor %}"
    ),
    "comparison of shared lists": LISTS + "{{ ns.l == ns.m }}",
    "containment of shared lists": LISTS + "{{ ns.l in [ns.m] }}",
    "test of shared lists": LISTS + "{{ [ns.l] | select('equalto', ns.m) | list }}",
    "sorting of shared lists": LISTS + "{{ [ns.l, ns.m] | map('default', 1) | sort }}",
    "search of shared lists": LISTS + "{{ [ns.l].index(ns.m) }}",
    "change of shared lists": LISTS
    + "{% for x in [ns.l, ns.m] %}{{ loop.changed(x) }}{% endfor %}",
    "key of shared tuples": TUPLES + "{{ {ns.t: 1} }}",
    "look-up of shared tuples": TUPLES + "{{ ns.d[ns.t] }}",
    "get of shared tuples": TUPLES + "{{ ns.d.get(ns.t) }}",
    "dict of shared tuples": TUPLES + "{{ dict([(ns.t, 1)]) }}",
    "unique shared tuples": TUPLES + "{{ [ns.t, ns.t] | unique | list }}",
    "sorting of long texts": BIG + "{{ ([big ~ 'a', big ~ 'b'] * 9000) | sort }}",
    "search from the end": BIG + "{{ big.rfind(big[:1000000] ~ 'b' ~ big[:1000000]) }}",
    "strip of many characters": BIG + "{{ big.strip('b' * 2000000 ~ 'a') }}",
    "rounding": "{{ 5 | round(-10**9) }}",
    "deep parentheses": "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
    "deep lists": "{{ " + "[" * 20000 + "]" * 20000 + " }}",
    "deep blocks": "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "long number": "{{ " + "9" * 60000 + " }}",
    "long comparison": "{{ " + "a<" * 30000 + "a }}",
    "many outputs": "{{a}}" * 13000,
}

LARGE = {
    "repeated text": "{{ 'a' * 10**9 }}",
    "repeated text, turned": "{{ 10**9 * 'a' }}",
    "repeated list": "{{ ([0] * 10**9) | length }}",
    "wide center": "{{ 'a' | center(10**9) }}",
    "wide method": "{{ 'a'.ljust(10**9) }}",
    "zeros": "{{ 'a'.zfill(10**9) }}",
    "tabs": "{{ '\t'.expandtabs(10**9) }}",
    "wide format": "{{ '{:1000000000}'.format(1) }}",
    "computed format": "{{ '{:{}}'.format(1, 10**9) }}",
    "repeated format": BIG + "{{ ('{0}' * 5000).format(big) }}",
    "wide printf": "{{ '%1000000000d' % 1 }}",
    "wide printf with a key": "{{ '%(a(b))1000000000d' % {'a(b)': 1} }}",
    "wide printf after percent": "{{ '%%%1000000000d' % 1 }}",
    "computed printf": "{{ '%*d' % (10**9, 1) }}",
    "precise printf": "{{ '%.1000000000f' | format(1.0) }}",
    "repeated printf": BIG + "{{ ('%(a)s' * 5000) % {'a': big} }}",
    "join": "{{ range(90000) | join('x' * 90000) }}",
    "join method": "{{ ('x' * 90000).join(['a'] * 90000) }}",
    "replace": BIG + "{{ big | replace('a', big) }}",
    "replace nothing": BIG + "{{ big.replace('', big) }}",
    "indent": "{{ ('\\n' * 1000000) | indent(90000) }}",
    "indent of a text": BIG + "{{ ('\\n' * 1000) | indent(big) }}",
    "JSON indent": "{{ ([1] * 90000) | tojson(indent=90000) }}",
    "JSON separators": BIG + "{{ [1, 2, 3] | tojson(separators=(big, big)) }}",
    "split": "{{ ('a ' * 2000000).split(' ') | length }}",
    "split at blanks": "{{ ('a ' * 2000000).split() | length }}",
    "lines": "{{ ('a\\n' * 2000000).splitlines() | length }}",
    "letters": BIG + "{{ big | list | length }}",
    "title": "{{ ('a ' * 2000000) | title | length }}",
    "doubled by ~": doubling("{% set ns.s = ns.s ~ ns.s %}"),
    "doubled by +": doubling("{% set ns.s = ns.s + ns.s %}"),
    "doubled by a block": doubling("{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}"),
    "doubled lists": doubling("{% set ns.l = ns.l + ns.l %}"),
    "print of shared lists": LISTS + "{{ ns.l }}",
    "JSON of shared lists": LISTS + "{{ ns.l | tojson }}",
    "text of shared lists": LISTS + "{{ 'a' ~ ns.l }}",
    "format of shared lists": LISTS + "{{ '%s' % [ns.l] }}",
    "error of shared lists": LISTS + "{{ raise_exception(ns.l) }}",
    "views of shared dicts": doubling("{% set ns.d = {'a': ns.d, 'b': ns.d} %}")
    + "{{ ns.d.values() }}",
    "namespace in itself": NS + "{% set ns.d = [ns] %}{{ [ns.d] }}",
    "kept lists": NS + "{% for i in range(90000) %}{% set ns.l = [ns.l, range(90000) | list] %}"
    "{% endfor %}",
    "kept texts": NS + "{% for i in range(90000) %}{% set ns.l = [ns.l, 'a' * (90000 + i)] %}"
    "{% endfor %}",
    "kept literals": NS
    + "{% for i in range(90000) %}{% set ns.l = [ns.l, "
    + "[]," * 500
    + "] %}{% endfor %}",
    "kept slices": NS + BIG + "{% for i in range(90000) %}{% set ns.l = [ns.l, big[1:]] %}"
    "{% endfor %}",
    "long output": "{% for i in range(90000) %}{{ 'a' * 100 }}{% endfor %}",
    "long output of a caller": "{% macro m() %}{% for i in range(90000) %}{{ caller() }}"
    "{% endfor %}{% endmacro %}{% call m() %}" + "a" * 100 + "{% endcall %}",
    "date": "{{ strftime_now('%Y' * 100000) }}",
}

INTERNALS = {
    "class": "{{ ''.__class__ }}",
    "item": "{{ ''['__class__'] }}",
    "filter": "{{ '' | attr('__class__') }}",
    "map": "{{ [''] | map(attribute='__class__') | list }}",
    "format": "{{ '{0.__class__}'.format('') }}",
    "format_map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "function": "{{ raise_exception.__globals__ }}",
    "dict": "{{ dict.__globals__ }}",
    "namespace class": "{{ namespace.__init__ }}",
    "namespace name": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "cycler": "{{ cycler.__init__.__globals__ }}",
    "macro": "{% macro m() %}{% endmacro %}{{ m._func }}",
    "template": "{{ self._TemplateReference__context }}",
    "loop": "{% for i in [1] %}{{ loop._iterable }}{% endfor %}",
    "address": "{{ range }}",
    "encode": "{{ 'a'.encode() }}",
    "to_bytes": "{{ (1).to_bytes(10**9) }}",
    "translate": "{{ 'a'.translate({97: 'b'}) }}",
}


@pytest.fixture(autouse=True)
def short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "metered", partial(metered, SECONDS))


def refuse(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^chat template"):
        ChatTemplate(source, bos_token="", eos_token="").render([])


def test_a_message_shows_no_address_of_an_object() -> None:
    with pytest.raises(TemplateError, match="str object has no element") as error:
        ChatTemplate("{{ ''[{range: 1}].x }}", bos_token="", eos_token="").render([])
    assert "0x" not in str(error.value)


@pytest.mark.parametrize("name", SLOW)
def test_slow_templates_are_stopped_in_time(name: str) -> None:
    start = time.process_time()  # what others do on the machine does not count
    refuse(SLOW[name])
    # Beside the rendering: compiling, and the longest single operation.
    assert time.process_time() - start < SECONDS + 1.5


@pytest.mark.parametrize("name", LARGE)
def test_large_templates_are_stopped_before_they_fill_the_memory(name: str) -> None:
    tracemalloc.start()
    try:
        refuse(LARGE[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_BYTES


@pytest.mark.parametrize("name", INTERNALS)
def test_templates_do_not_reach_the_inside_of_python(name: str) -> None:
    refuse(INTERNALS[name])


def test_an_error_of_a_template_is_one_printable_line() -> None:
    with pytest.raises(TemplateError) as error:
        ChatTemplate(
            "{{ raise_exception('a\\n\x1b[2J\u202eb' * 1000) }}", bos_token="", eos_token=""
        ).render([])
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 5000


def test_an_error_of_many_words_takes_little_memory() -> None:
    template = ChatTemplate("{{ raise_exception('a ' * 2000000) }}", bos_token="", eos_token="")
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError, match="a a a"):
            template.render([])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_BYTES // 8


def test_the_limits_hold_in_another_thread() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            refuse(SLOW["macro that calls itself twice"])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    start = time.monotonic()
    thread.start()
    thread.join()
    assert not errors
    assert time.monotonic() - start < SECONDS + 1.5


def test_the_error_does_not_keep_the_values_alive() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError) as error:
            ChatTemplate(LARGE["kept texts"], bos_token="", eos_token="").render([])
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.value.__context__ is None
    assert current < MAX_BYTES // 8
