"""From a specification to a constraint, within limits."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLParserLimits
from llguidance.gbnf_to_lark import gbnf_to_lark

from nextn.errors import RequestError
from nextn.grammar.matcher import CompiledGrammar
from nextn.grammar.specification import Specification, specification_from_settings
from nextn.grammar.vocabulary import Vocabulary

if TYPE_CHECKING:
    from nextn.text.tokenizer import Tokenizer

MAX_CACHED = 64
"""Compiled constraints that are kept; programs ask for the same one again and again."""

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)
"""What a grammar may cost, in the units of llguidance, which has names for what is exceeded."""

# Models that are unsure write white space without end; so do llama.cpp's JSON grammars.
_WHITE_SPACE = r"(?: |\n[ \t]{0,20})?"

_UNSUPPORTED = re.compile(r"Unimplemented keys: \[(.*)\]")
_MOST_SHOWN = 300


class GrammarCompiler:
    """Makes constraints for one model. Safe to share between threads.

    Args:
        tokenizer: of the model.
        vocab_size: width of its logits.

    Raises:
        UnsupportedModelError: the model has no end token.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._vocabulary = Vocabulary(tokenizer, vocab_size)
        self._compiled: OrderedDict[Specification, CompiledGrammar] = OrderedDict()
        self._lock = threading.Lock()

    def from_settings(self, settings: Mapping[str, Any]) -> CompiledGrammar | None:
        """The constraint that the settings of a request ask for, if any.

        Raises:
            RequestError: see `specification_from_settings` and `compile`.
        """
        specification = specification_from_settings(settings)
        return None if specification is None else self.compile(specification)

    def compile(self, specification: Specification) -> CompiledGrammar:
        """Make a constraint, or find one that was made before.

        Raises:
            RequestError: the schema or grammar is wrong, not supported or too large.
        """
        with self._lock:
            found = self._compiled.get(specification)
            if found is not None:
                self._compiled.move_to_end(specification)
                return found
        matcher = LLMatcher(
            self._vocabulary.ll_tokenizer,
            _grammar_text(specification),
            log_level=0,
            limits=LIMITS,
        )
        if matcher.is_error():
            raise _error(specification, matcher.get_error())
        made = CompiledGrammar(matcher, self._vocabulary, specification)
        made.start().mask()  # fails for what is too large to begin with
        with self._lock:
            self._compiled[specification] = made
            while len(self._compiled) > MAX_CACHED:
                self._compiled.popitem(last=False)
        return made


def check_specification(specification: Specification) -> None:
    """Find what is wrong with a specification for any model.

    Raises:
        RequestError: see `GrammarCompiler.compile`.
    """
    failed, messages = LLMatcher.validate_grammar_with_warnings(
        _grammar_text(specification), limits=LIMITS
    )
    if failed:
        raise _error(specification, messages[0])


def _grammar_text(specification: Specification) -> str:
    """The specification in llguidance's own form."""
    if specification.kind == "json_schema":
        return LLMatcher.grammar_from_json_schema(
            specification.text,
            defaults={"whitespace_pattern": _WHITE_SPACE},
            # A keyword that is not supported must not be ignored, even if the schema asks for it.
            overrides={"lenient": False},
        )
    if specification.kind == "regex":
        return LLMatcher.grammar_from_regex(specification.text)
    if specification.kind == "gbnf":
        try:
            return LLMatcher.grammar_from_lark(gbnf_to_lark(specification.text))
        except RecursionError as error:
            raise RequestError(f"{specification.field}: too many levels of brackets") from error
        except Exception as error:  # it raises bare exceptions, and IndexError at the end of input
            raise _error(specification, str(error)) from error
    return LLMatcher.grammar_from_lark(specification.text)


def _error(specification: Specification, reason: str) -> RequestError:
    """One line about a failure, which may quote a long grammar."""
    field = specification.field
    unsupported = _UNSUPPORTED.search(reason)
    if unsupported:
        return RequestError(
            f"{field}: the keyword {unsupported[1]} of JSON schema is not supported; leave it out"
        )
    line = " ".join(reason.split())
    if len(line) > _MOST_SHOWN:
        line = f"{line[:_MOST_SHOWN]}..."
    return RequestError(f"{field}: {line}")
