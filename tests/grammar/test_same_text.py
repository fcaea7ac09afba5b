"""A constrained text is valid, and the same with and without drafts, alone and with others."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import pytest

import nextn
from nextn.engine import Engine, GenerationRequest
from nextn.engine.speculation import Speculation
from nextn.grammar.specification import specification_from_settings
from nextn.speculate import DepthController, Drafter, HeadDrafter, SuffixDrafter

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "first_name": {"type": "string", "maxLength": 5},
        "kind": {"enum": ["first", "fifth", "final"]},
        "sizes": {"type": "array", "items": {"type": "integer", "maximum": 9, "minimum": 0}},
        "first_kind_of_all": {"type": "boolean"},
    },
    "required": ["first_name", "kind", "sizes", "first_kind_of_all"],
    "additionalProperties": False,
}
SCHEMA["properties"]["sizes"]["maxItems"] = 4
GRAMMAR = 'root ::= line{3,5} "the end"\nline ::= "- the " [a-z]{2,4} "\\n"'
FORMS: tuple[dict[str, Any], ...] = (
    {"json_schema": SCHEMA},
    {"grammar": GRAMMAR},
    {"regex": r"(the thing (is|was) [a-z]{1,3}\. ){2}"},
    {"regex": r"[ab]{3} and the rest", "grammar_after": "s"},
)
SETTINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0, "seed": 0},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 1.5, "top_k": 0, "top_p": 0.9, "min_p": 0.0, "seed": 2},
    {"temperature": 0.7, "repeat_penalty": 1.2, "logprobs": 0, "seed": 3},
)
PROMPTS = ([5, 6, 7, 8], [40, 41, 42])

Written = list[list[tuple[int, float | None]]]


def requests(model: nextn.Model, draft: str | int) -> list[GenerationRequest]:
    return [
        model.request(prompt, **{**form, **settings, "max_tokens": 120, "draft": draft})
        for prompt in PROMPTS
        for form in FORMS
        for settings in SETTINGS
    ]


def write(model: nextn.Model, engine: Engine, draft: str | int) -> Written:
    sequences = [engine.submit(request) for request in requests(model, draft)]
    written: dict[int, list[tuple[int, float | None]]] = {each.id: [] for each in sequences}
    while engine.running or engine.waiting:
        for event in engine.step():
            assert event.token is not None, event.error
            written[event.sequence.id].append((event.token.id, event.token.logprob))
    return [written[each.id] for each in sequences]


@pytest.fixture(scope="module")
def plain(model: nextn.Model) -> Written:
    """One at a time, one token per step."""
    return write(model, Engine(model.executor, model.tokenizer, max_sequences=1), "off")


@pytest.mark.parametrize("together", [1, 8])
@pytest.mark.parametrize("draft", [1, 3, 8, "auto"])
def test_drafts_and_neighbours_change_no_token(
    model: nextn.Model, plain: Written, draft: str | int, together: int
) -> None:
    engine = Engine(model.executor, model.tokenizer, max_sequences=together)
    assert write(model, engine, draft) == plain
    if draft != "auto":  # which goes by the time that drafts take
        assert engine.statistics.by_drafter["grammar"].accepted > 0
        assert engine.statistics.by_drafter["head"].accepted > 0


def test_forced_drafts_change_no_token(model: nextn.Model, plain: Written) -> None:
    engine = Engine(model.executor, model.tokenizer)
    drafters: list[Drafter] = [SuffixDrafter(), HeadDrafter(model.executor, engine.cache.uses)]
    engine._speculation = Speculation(drafters, DepthController())
    assert write(model, engine, 4) == plain
    assert "grammar" not in engine.statistics.by_drafter


def test_every_complete_text_has_its_form(model: nextn.Model, plain: Written) -> None:
    validator = jsonschema_rs.validator_for(SCHEMA)
    complete = 0
    for request, tokens in zip(requests(model, "off"), plain, strict=True):
        ids = [token for token, _ in tokens]
        if ids[-1] not in model.tokenizer.end_of_generation:
            assert len(ids) == 120
            continue
        complete += 1
        text = model.tokenizer.decode(ids[:-1], continues=True)
        source = request.constraint
        assert source is not None
        form = source.specification  # type: ignore[attr-defined]
        if form.kind == "json_schema":
            validator.validate(json.loads(text))
        elif form.kind == "gbnf":
            assert re.fullmatch(r"(- the [a-z]{2,4}\n){3,5}the end", text)
        elif form.after is None:
            assert re.fullmatch(form.text, text)
        else:
            _, marker, behind = text.partition(form.after)
            # A token that holds the marker may go on behind it; the form begins with the next one.
            assert not marker or re.search(form.text + "$", behind), text
    assert complete >= len(plain) // 2


def test_settings_without_a_form_give_no_constraint(model: nextn.Model) -> None:
    assert specification_from_settings({"temperature": 1.0, "regex": None}) is None
    assert model.request([1], response_format={"type": "text"}).constraint is None


def test_the_python_api_takes_forms_in_all_its_methods(model: nextn.Model) -> None:
    settings = {"regex": "[ab]{4}", "temperature": 1.0, "seed": 3}
    generated = model.generate([5, 6, 7], **settings)
    assert re.fullmatch("[ab]{4}", generated.text)
    assert model.generate_many([[5, 6, 7], [9]], **settings)[0].text == generated.text
    with model.stream([5, 6, 7], **settings) as stream:
        assert "".join(token.text for token in stream) == generated.text
    messages = [{"role": "user", "content": "the thing"}]
    assert re.fullmatch("[ab]{4}", model.chat(messages, **settings).text)
    assert generated.finish_reason == "stop"
