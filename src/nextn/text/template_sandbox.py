"""The Jinja environment of chat templates: every operation goes through its check.

It is Jinja's immutable sandbox with the settings that model publishers assume (those of
transformers). Attributes, filters and functions are allow-lists. Operations that Jinja compiles to
plain Python are wrapped in the syntax tree: loops, comparisons, literals, slices and `~`. What chat
templates have no use for (inclusion, inheritance, autoescape) is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any

from jinja2 import nodes, runtime
from jinja2.environment import Template
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler
from jinja2.visitor import NodeTransformer

from nextn.text.template_filters import FILTERS, FUNCTIONS, TESTS, SafeNamespace
from nextn.text.template_limits import (
    MAX_TEMPLATE_NODES,
    LimitError,
    checked,
    meter,
    steps,
    weigh,
)
from nextn.text.template_values import (
    OPERATORS,
    call_method,
    check_format,
    concatenate,
    operand,
    output,
)

# fmt: off
_STRING_METHODS = [
    "capitalize", "casefold", "center", "count", "endswith", "find", "format", "index", "isalnum",
    "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric",
    "isprintable", "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip",
    "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust",
    "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
    "title", "upper", "zfill",
]
_LOOP_ATTRIBUTES = [
    "changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length",
    "nextitem", "previtem", "revindex", "revindex0",
]
# fmt: on
_ATTRIBUTES: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset(_STRING_METHODS)),
    (dict, frozenset(["copy", "get", "items", "keys", "values"])),
    (list, frozenset(["copy", "count", "index"])),
    (tuple, frozenset(["count", "grouper", "index", "list"])),
    (runtime.LoopContext, frozenset(_LOOP_ATTRIBUTES)),
    (runtime.Macro, frozenset(["arguments", "caller", "catch_kwargs", "catch_varargs", "name"])),
    (runtime.BlockReference, frozenset(["super"])),
    (Cycler, frozenset(["current", "next", "reset"])),
)
"""Attributes that a template may reach, by the type of the value."""

# Names with a space cannot be written in a template.
_EACH, _OPERAND, _LITERAL, _CONCATENATE = " each", " operand", " literal", " concatenate"
_WRAPPERS: dict[str, Callable[[Any], Any]] = {
    _EACH: steps,
    _OPERAND: operand,
    _LITERAL: checked,
    _CONCATENATE: concatenate,
}
_REFUSED: tuple[tuple[type[nodes.Node], str], ...] = (
    (nodes.Include, "include"),
    (nodes.Import, "import"),
    (nodes.FromImport, "from"),
    (nodes.Extends, "extends"),
    (nodes.EvalContextModifier, "autoescape"),
)


class GenerationTag(Extension):
    """Accepts `{% generation %}`, which marks the model's own words for training."""

    tags = {"generation"}  # noqa: RUF012 (typed so by the base class)

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the body of the tag, which is rendered as it stands."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Instrument(NodeTransformer):
    """Wraps the operations that the sandbox does not intercept by itself."""

    def __init__(self) -> None:
        self._nodes = 0

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        for kind, tag in _REFUSED:
            if isinstance(node, kind):
                raise TemplateSyntaxError(f"the tag {tag!r} is not allowed", node.lineno)
        self._nodes += 1
        if self._nodes > MAX_TEMPLATE_NODES:
            raise LimitError(f"has a syntax tree of more than {MAX_TEMPLATE_NODES} nodes")
        return super().generic_visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 (Jinja's naming)
        self.generic_visit(node)
        node.iter = _wrap(_EACH, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _wrap(_OPERAND, node.expr)
        for other in node.ops:
            other.expr = _wrap(_OPERAND, other.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _wrap(_CONCATENATE, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = _wrap(_OPERAND, node.key)
        return node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return _wrap(_LITERAL, self.generic_visit(node))

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return _wrap(_LITERAL, self.generic_visit(node))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _wrap(_LITERAL, node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _wrap(_LITERAL, node) if isinstance(node.arg, nodes.Slice) else node


def _wrap(name: str, node: nodes.Node) -> nodes.Expr:
    if isinstance(node, nodes.Const):
        return node
    wrapper = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    wrapper.environment = node.environment
    return wrapper


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles and runs chat templates; both only inside `template_limits.metered`."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])
    concat = staticmethod(concatenate)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, GenerationTag],
            finalize=output,
            optimized=False,
            cache_size=0,
        )
        self.filters = {**FILTERS, **_WRAPPERS}
        self.tests = dict(TESTS)
        self.globals = dict(FUNCTIONS)
        self.binop_table.update(OPERATORS)

    def load(self, source: str) -> Template:
        """Compile a template."""
        tree = _Instrument().visit(self.parse(source))
        code: CodeType = self.compile(tree, filename="<template>")
        return Template.from_code(self, code, self.make_globals(None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Tell whether a template may reach `obj.attr`."""
        if isinstance(obj, SafeNamespace):
            return not attr.startswith("_")
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Refuse an internal name at once; another name that is not allowed is undefined."""
        if attribute.startswith("_"):
            raise SecurityError(f"access to {attribute!r} is not allowed")
        return super().unsafe_undefined(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return `obj[argument]`."""
        weigh(argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return the result of a binary operator."""
        return checked(super().call_binop(context, operator, left, right))

    # The names of the parameters cannot clash with those of arguments that a template passes.
    def call(
        __self,  # noqa: N805
        __context: Context,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a method, macro or function."""
        meter().step()
        if isinstance(__obj, BuiltinMethodType):
            # Jinja adds these two for functions that ask for its context.
            kwargs.pop("_loop_vars", None)
            kwargs.pop("_block_vars", None)
            return checked(call_method(__obj, args, kwargs))
        if isinstance(__obj, runtime.LoopContext):
            args = tuple(map(steps, args))
        elif isinstance(__obj, MethodType) and isinstance(__obj.__self__, runtime.LoopContext):
            for argument in args:
                weigh(argument)
        return checked(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a checked version of `value`, if it is `str.format`."""
        sandboxed = super().wrap_str_format(value)
        if sandboxed is None:
            return None
        call = sandboxed

        def format_checked(*args: Any, **kwargs: Any) -> str:
            check_format(value.__self__, [*args, *kwargs.values()])
            return call(*args, **kwargs)

        return format_checked
