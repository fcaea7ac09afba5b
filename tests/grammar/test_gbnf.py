"""Grammars in llama.cpp's notation mean what they mean there."""

from __future__ import annotations

import pytest

import nextn
from nextn.errors import RequestError
from nextn.grammar.compiler import GrammarCompiler

JSON = r"""
# a JSON value, as such grammars are usually written
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
CHESS = r"""
root ::= ("1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+)
move ::= (pawn | non-pawn | castle) [+#]?
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
non-pawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
castle ::= "O-O" "-O"?
"""


def is_allowed(model: nextn.Model, compiler: GrammarCompiler, grammar: str, text: str) -> bool:
    source = compiler.from_settings({"grammar": grammar})
    assert source is not None
    constraint = source.start()
    tokens = model.tokenizer.encode(text, add_special=False)
    if constraint.allowed(tokens) < len(tokens):
        return False
    for token in tokens:
        constraint.accept(token)
    return constraint.may_end


@pytest.mark.parametrize(
    ("grammar", "text", "allowed"),
    [
        (JSON, '{"a": [1, -2.5e3, true], "b": {"c": "x\\n\\u00e4 é"}}', True),
        (JSON, '{"a": 1', False),
        (JSON, '{"a": "x\ny"}', False),
        (JSON, "[1]", False),
        (CHESS, "1. e4 e5\n2. Nf3 Nc6\n3. O-O exd8=Q+\n", True),
        (CHESS, "1. e4 e9\n", False),
        ('root ::= "a" | "b" root', "bba", True),
        ("root ::= [^a-c]+", "xyz\n", True),
        ("root ::= [^a-c]+", "xay", False),
        ('root ::= "x"{2,3} end?\nend ::= "!"', "xxx!", True),
        ('root ::= "x"{2,3}', "x", False),
        ('root ::= "/" [/\\]] "\\""', '/]"', True),
    ],
)
def test_a_grammar_allows_what_it_says(
    model: nextn.Model, compiler: GrammarCompiler, grammar: str, text: str, allowed: bool
) -> None:
    assert is_allowed(model, compiler, grammar, text) == allowed


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("root ::= other", "Rule 'other' not found"),
        ('other ::= "a"', "No 'root' rule found"),
        ('root ::= "a', "grammar: "),
        ('root ::= "abc\\', "grammar: "),
        ("root ::= [a", "grammar: "),
        ('root ::= ("a"', "Expected ')'"),
        ("root ::= <[1000]>", "grammar: "),
    ],
)
def test_a_wrong_grammar_is_refused(compiler: GrammarCompiler, grammar: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        compiler.from_settings({"grammar": grammar})
    assert message in str(caught.value)
