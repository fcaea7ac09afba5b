import math

import pytest

from nextn.errors import RequestError
from nextn.sampling import SamplingParams


def test_defaults_and_extremes_pass() -> None:
    SamplingParams().check(100)
    SamplingParams(
        temperature=0,
        top_k=0,
        top_p=0,
        min_p=1,
        typical_p=0,
        repeat_last_n=-1,
        logit_bias={0: -math.inf, 99: 5},
        seed=2**64 - 1,
        logprobs=0,
    ).check(100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", "1"),
        ("temperature", True),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 1.01),
        ("min_p", -0.01),
        ("typical_p", 2),
        ("repeat_penalty", 0.0),
        ("repeat_last_n", -2),
        ("presence_penalty", math.nan),
        ("frequency_penalty", math.inf),
        ("seed", -1),
        ("seed", 2**64),
        ("logprobs", -1),
        ("logprobs", 101),
    ],
)
def test_a_bad_value_is_named_with_its_range(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"^{field} is .*allowed: a") as error:
        SamplingParams(**{field: value}).check(100)  # type: ignore[arg-type]
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("bias", [{100: 1.0}, {-1: 1.0}, {3: math.inf}, {3: math.nan}])
def test_a_bad_bias_is_named(bias: dict[int, float]) -> None:
    with pytest.raises(RequestError, match="logit_bias"):
        SamplingParams(logit_bias=bias).check(100)
