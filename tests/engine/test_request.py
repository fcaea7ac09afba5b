from __future__ import annotations

from typing import Any

import pytest

from nextn.engine.request import GenerationRequest, request_from_settings
from nextn.errors import RequestError
from nextn.sampling import SamplingParams


def check(**settings: Any) -> None:
    prompt = settings.pop("prompt", [1, 2])
    request_from_settings(prompt, frozenset({9}), settings).check(10, 100)


def test_settings_become_a_request() -> None:
    settings = {"max_tokens": 3, "stop": "x", "draft": 4, "top_k": 7, "seed": 1}
    assert request_from_settings([1], frozenset({9}), settings) == GenerationRequest(
        prompt=[1],
        sampling=SamplingParams(top_k=7, seed=1),
        max_tokens=3,
        stop=("x",),
        end_tokens=frozenset({9}),
        draft=4,
    )
    request = request_from_settings([1], frozenset({9}), {"stop": ["a", "b"], "ignore_end": True})
    assert request.stop == ("a", "b")
    assert request.end_tokens == frozenset()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": []}, "prompt is empty"),
        ({"prompt": [1] * 100}, r"prompt has 100 tokens, but the context holds 100 "),
        ({"prompt": [1, 10]}, "token id 10 is outside the vocabulary; use 0 to 9"),
        ({"prompt": [-1]}, "token id -1"),
        ({"max_tokens": 0}, "max_tokens is 0; allowed: an integer from 1"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"stop": ""}, "stop: '' is no stop string"),
        ({"stop": ["a", 3]}, "stop: 3 is no stop string"),
        ({"stop": 3}, "stop is 3"),
        ({"stop": None}, "stop is None"),
        ({"draft": 0}, "draft is 0; allowed: 'auto', 'off', or an integer from 1 to 16"),
        ({"draft": 17}, "draft is 17"),
        ({"draft": "on"}, "draft is 'on'"),
        ({"draft": True}, "draft is True"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"logit_bias": {10: 1.0}}, "logit_bias: token id is 10"),
    ],
)
def test_an_impossible_setting_is_named_with_its_value(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        check(**settings)


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="unknown setting temprature; known are max_tokens, "):
        check(temprature=0.0)


def test_possible_settings_pass() -> None:
    check(prompt=[0, 9], max_tokens=1, stop=("a", "bc"), draft="off", temperature=0.0)
    check(prompt=[0] * 99, draft=16, max_tokens=None)
