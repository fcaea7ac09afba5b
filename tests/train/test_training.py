"""Loss, training, checkpoints and the file, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn.errors import RequestError
from nextn.files import Checkpoint, open_checkpoint
from nextn.models.nextn_head import load_head_plan
from nextn.train.data import write_data
from nextn.train.settings import TrainSettings
from nextn.train.shards import StoredText
from tests.train.conftest import HELD_OUT, PROMPTS, data_settings

torch = pytest.importorskip("torch")

from nextn.train import run as training_run  # noqa: E402
from nextn.train.export import export_head  # noqa: E402
from nextn.train.loss import distillation_loss  # noqa: E402
from nextn.train.muon import orthogonal  # noqa: E402
from nextn.train.run import HeadTraining  # noqa: E402
from nextn.train.trainer import TrainingError, learning_rate  # noqa: E402


class Quiet:
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, activity: str, done: int, total: int | None, /) -> None:
        pass

    def note(self, line: str, /) -> None:
        self.lines.append(line)


def settings(**changes: Any) -> TrainSettings:
    given = {
        "steps": 12, "batch_tokens": 256, "longest": 64, "depth": 3, "validations": 3,
        "draft_vocabulary": 128, "threads": 1, "learning_rate": 3e-3,
        "growth": 0.0,
    }  # fmt: skip
    return TrainSettings(**{**given, **changes})


@pytest.fixture
def texts(tiny: Checkpoint, tmp_path: Path) -> tuple[list[StoredText], list[StoredText]]:
    stores = write_data(
        tiny,
        (PROMPTS, HELD_OUT),
        data_settings(tokens=600),
        tmp_path / "data",
        threads=1,
        progress=lambda *_: None,
    )
    return stores[0].texts(), stores[1].texts()


def start(
    tiny: Checkpoint,
    texts: tuple[list[StoredText], list[StoredText]],
    work: Path,
    init: Path | None = None,
    **changes: Any,
) -> HeadTraining:
    work.mkdir(exist_ok=True)
    return HeadTraining(tiny, *texts, settings(**changes), work, init=init, observer=Quiet())


def plain_loss(
    finals: Any, weights: Any, hidden: Any, output: Any, trunk_output: Any
) -> tuple[Any, Any]:
    """The loss, and the sum of the KL, as their formulas say."""
    trunk = torch.log_softmax(hidden @ trunk_output.T, -1)
    head = torch.log_softmax(finals @ output.T, -1)
    kl = (trunk.exp() * (trunk - head)).sum(-1)
    distance = (trunk.exp() - head.exp()).abs().sum(-1) / 2
    share = torch.exp(3.0 * (distance.detach() - 1.0))
    return (weights * (share * kl + (1.0 - share) * distance)).sum(), (weights * kl).sum()


@pytest.mark.parametrize("chunk", [1 << 21, 300])
def test_loss_and_gradient_are_those_of_autograd(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nextn.train.loss._CHUNK_ELEMENTS", chunk)
    generator = torch.Generator().manual_seed(1)
    finals = torch.randn(3, 40, 16, generator=generator, requires_grad=True)
    hidden = torch.randn(40, 16, generator=generator)
    output = torch.randn(90, 16, generator=generator)
    trunk_output = output + 0.3 * torch.randn(90, 16, generator=generator)
    weights = torch.rand(3, 40, generator=generator)
    weights[1, :7] = 0.0
    loss, per_step = distillation_loss(finals, weights, hidden, output, trunk_output)
    (3.0 * loss).backward()
    got, finals.grad = finals.grad, None
    expected, _ = plain_loss(finals, weights, hidden, output, trunk_output)
    (3.0 * expected).backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(got, finals.grad, rtol=1e-4, atol=1e-5)
    means = [
        plain_loss(
            finals[k : k + 1], (weights[k : k + 1] > 0).float(), hidden, output, trunk_output
        )[1]
        / (weights[k] > 0).sum()
        for k in range(3)
    ]
    torch.testing.assert_close(per_step, torch.stack(means).detach())


def test_a_head_that_is_the_trunk_has_no_loss() -> None:
    hidden, output = torch.randn(5, 8), torch.randn(20, 8)
    loss, _ = distillation_loss(hidden[None].clone(), torch.ones(1, 5), hidden, output, output)
    assert float(loss) == pytest.approx(0.0, abs=1e-5)


def test_the_depth_grows(tiny: Checkpoint, texts: Any, tmp_path: Path) -> None:
    given = settings(growth=0.5, depth=4)
    assert [given.depth_at(at) for at in (0, 0.16, 0.17, 0.34, 0.5, 1.0)] == [1, 1, 2, 3, 4, 4]
    training = start(tiny, texts, tmp_path / "work", growth=0.5)
    training.run()
    assert [len(record["kl"]) for record in training.history.losses] == [1] * 3 + [2] * 3 + [3] * 6


def test_the_learning_rate_rises_and_falls() -> None:
    given = settings(warm_up=0.1, learning_rate=1.0)
    rates = [learning_rate(at, given) for at in (0.0, 0.05, 0.1, 0.55, 1.0, 1.5)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 0.51, 0.02, 0.02])


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (16, 16)])
def test_updates_are_nearly_orthogonal(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(shape, generator=generator)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    nearest = left @ right
    found = orthogonal(x)
    got = torch.linalg.svdvals(found)
    # A square matrix has singular values near zero, which stay smaller.
    assert float(got.max()) < 1.3
    assert float(got[values > 0.2 * values.max()].min()) > 0.6
    assert float((found * nearest).sum()) > 0.9 * float(found.norm() * nearest.norm())


def test_training_lowers_the_loss(tiny: Checkpoint, texts: Any, tmp_path: Path) -> None:
    training = start(tiny, texts, tmp_path / "work", steps=60)
    training.run()
    losses = [np.array(record["kl"]) for record in training.history.losses]
    assert losses[0].shape == (3,)
    assert (np.mean(losses[-5:], axis=0) < 0.8 * np.mean(losses[:3], axis=0)).all()
    assert [record["step"] for record in training.history.validations] == [0, 20, 40, 60]
    assert set(training.history.validations[0]["rates"]) == {"code", "all"}


def test_the_fitted_projection_is_a_better_start(
    tiny: Checkpoint, texts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_loss(work: Path) -> float:
        training = start(tiny, texts, work, steps=1)
        training.run()
        return float(training.history.losses[0]["kl"][0])

    fitted = first_loss(tmp_path / "a")
    monkeypatch.setattr(training_run, "fit_projection", lambda *_, **__: None)
    assert fitted < 0.9 * first_loss(tmp_path / "b")


@pytest.mark.parametrize("begins_with_a_head", [False, True])
def test_a_resumed_training_ends_like_one_without_a_break(
    tiny: Checkpoint,
    texts: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begins_with_a_head: bool,
) -> None:
    init = None
    if begins_with_a_head:
        init = tmp_path / "head.gguf"
        start(tiny, texts, tmp_path / "first").export(init)
    whole = start(tiny, texts, tmp_path / "a", init=init)
    whole.run()
    broken = start(tiny, texts, tmp_path / "b", init=init)
    train, calls = broken._trainer.train, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(broken._trainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    again = start(tiny, texts, tmp_path / "b", init=init)
    again.run()
    expected = whole.head.values()
    for name, values in again.head.values().items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert again.history.losses == whole.history.losses
    shown = [(v["step"], v["rates"]) for v in again.history.validations]
    assert shown == [(v["step"], v["rates"]) for v in whole.history.validations]


def test_a_finished_training_is_not_repeated(tiny: Checkpoint, texts: Any, tmp_path: Path) -> None:
    first = start(tiny, texts, tmp_path / "work")
    first.run()
    second = start(tiny, texts, tmp_path / "work")
    second.run()
    for name, values in second.head.values().items():
        np.testing.assert_array_equal(values, first.head.values()[name])


def test_other_settings_do_not_go_on_from_a_checkpoint(
    tiny: Checkpoint, texts: Any, tmp_path: Path
) -> None:
    start(tiny, texts, tmp_path / "work", steps=2).run()
    with pytest.raises(RequestError, match="another decay; give the same settings"):
        start(tiny, texts, tmp_path / "work", decay=0.5)
    start(tiny, texts, tmp_path / "work", steps=3).run()


def test_a_damaged_checkpoint_is_said(tiny: Checkpoint, texts: Any, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(RequestError, match=r"checkpoint.pt: is damaged"):
        start(tiny, texts, tmp_path / "work")


def test_a_full_disk_keeps_the_checkpoint_before(
    tiny: Checkpoint, texts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tiny, texts, tmp_path / "work", steps=2).run()
    path = tmp_path / "work/checkpoint.pt"
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos 64 vs 0")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(OSError, match="cannot be written"):
        start(tiny, texts, tmp_path / "work", steps=3).run()
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_loss_that_is_no_number_ends_the_training(
    tiny: Checkpoint, texts: Any, tmp_path: Path
) -> None:
    training = start(tiny, texts, tmp_path / "work")
    with torch.no_grad():
        next(iter(training.head.trained.values()))[0] = float("nan")
    with pytest.raises(TrainingError, match="step 1: the loss is not a number"):
        training.run()


def test_too_little_data_is_said(tiny: Checkpoint, texts: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds 0 texts to train on"):
        start(tiny, ([], texts[1]), tmp_path / "work")


def test_the_file_holds_the_head(tiny: Checkpoint, texts: Any, tmp_path: Path) -> None:
    training = start(tiny, texts, tmp_path / "work")
    training.run()
    path = tmp_path / "mtp-tiny.gguf"
    training.export(path)
    with open_checkpoint(path) as file:
        described = load_head_plan(tiny, file)
        assert described.head.token_ids == tuple(training.head.token_ids.tolist())
        assert described.hidden_kind == "post"
        for name, values in training.head.values().items():
            found = file.tensors[name].decode()
            is_matrix = values.ndim > 1
            assert file.tensors[name].block_type.name == ("Q8_0" if is_matrix else "F32")
            atol = np.abs(values).max() / 127 if is_matrix else 0.0
            np.testing.assert_allclose(found, values, atol=atol, rtol=0)
        own_output = file.tensors["blk.2.nextn.shared_head_head.weight"]
        assert own_output.block_type.name == "IQ4_NL"
        found = training.head.output.float().numpy()
        np.testing.assert_allclose(found, own_output.decode(), rtol=2**-8)  # may be bfloat16
        trunk = tiny.tensors["token_embd.weight"].decode()[training.head.token_ids]
        np.testing.assert_allclose(own_output.decode(), trunk, atol=np.abs(trunk).max() / 10)


def test_a_head_can_be_trained_further(tiny: Checkpoint, texts: Any, tmp_path: Path) -> None:
    first = start(tiny, texts, tmp_path / "a", steps=40)
    first.run()
    first.export(tmp_path / "head.gguf")
    second = start(tiny, texts, tmp_path / "b", init=tmp_path / "head.gguf", steps=3)
    second.run()
    begun, begun_anew = second.history.losses[0]["kl"], first.history.losses[0]["kl"]
    assert begun[0] < 0.9 * begun_anew[0]


def test_the_result_can_be_the_mean_of_a_head_and_what_it_began_with(
    tiny: Checkpoint, texts: Any, tmp_path: Path
) -> None:
    init = tmp_path / "head.gguf"
    first = start(tiny, texts, tmp_path / "first")
    first.run()
    first.export(init)
    begun = start(tiny, texts, tmp_path / "begun", init=init).head.values()
    trained = start(tiny, texts, tmp_path / "a", init=init)
    trained.run()
    mixed = start(tiny, texts, tmp_path / "b", init=init, average=0.25)
    mixed.run()
    # A training that is over is the same when it is asked for again.
    again = start(tiny, texts, tmp_path / "b", init=init, average=0.25)
    again.run()
    expected = trained.head.values()
    for name, values in mixed.head.values().items():
        mean = 0.25 * begun[name] + 0.75 * expected[name]
        np.testing.assert_allclose(values, mean, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(values, again.head.values()[name])
    assert mixed.history.validations[-1] == again.history.validations[-1]
    # Another share is another end of the same training.
    alone = start(tiny, texts, tmp_path / "b", init=init)
    alone.run()
    for name, values in alone.head.values().items():
        np.testing.assert_array_equal(values, expected[name])
    assert alone.history.validations[-1]["rates"] == trained.history.validations[-1]["rates"]
    with pytest.raises(RequestError, match="--average mixes a head with that of --init"):
        start(tiny, texts, tmp_path / "c", average=0.5)


def test_a_head_that_is_trained_further_takes_the_draft_vocabulary_of_the_new_texts(
    tiny: Checkpoint, texts: Any, tmp_path: Path
) -> None:
    first = start(tiny, texts, tmp_path / "a", draft_vocabulary=16)
    first.export(tmp_path / "head.gguf")
    second = start(
        tiny, texts, tmp_path / "b", init=tmp_path / "head.gguf", draft_vocabulary=32, coverage=1.0
    )
    new = start(tiny, texts, tmp_path / "c", draft_vocabulary=32, coverage=1.0)
    assert len(first.head.token_ids) == 16
    np.testing.assert_array_equal(second.head.token_ids, new.head.token_ids)
    expected = first.head.values()
    for name, values in second.head.values().items():
        np.testing.assert_allclose(values, expected[name], atol=np.abs(values).max() / 127)


def test_a_head_without_a_norm_of_its_own_is_trained_on_from_that_of_the_trunk(
    tiny: Checkpoint, texts: Any, tmp_path: Path
) -> None:
    first = start(tiny, texts, tmp_path / "a")
    values = first.head.values()
    name = next(name for name in values if name.endswith("shared_head_norm.weight"))
    del values[name]
    export_head(tmp_path / "head.gguf", tiny, values, first.head.token_ids)
    second = start(tiny, texts, tmp_path / "b", init=tmp_path / "head.gguf")
    found = second.head.values()[name]
    np.testing.assert_array_equal(found, tiny.tensors["output_norm.weight"].decode())


def test_values_that_are_not_finite_are_not_written(tiny: Checkpoint, tmp_path: Path) -> None:
    values = {"blk.2.attn_norm.weight": np.full(64, np.nan, np.float32)}
    with pytest.raises(ValueError, match="NaN, infinite"):
        export_head(tmp_path / "head.gguf", tiny, values, np.arange(16, dtype=np.int32))
    assert not (tmp_path / "head.gguf").exists()
