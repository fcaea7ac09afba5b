"""Quantising whole files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from nextn.backends import Rows, create_executor
from nextn.errors import FileFormatError, NextnError, OutputError, RequestError
from nextn.files import open_checkpoint
from nextn.files.block_encoding import ENCODED_TYPES, F32, encode, usable_importance
from nextn.files.gguf.writer import NewTensor, TensorBytes, TensorPieces
from nextn.files.imatrix import InputSquares
from nextn.tools.convert import convert
from nextn.tools.quantise import (
    FILE_TYPES,
    MIX,
    Settings,
    plan_tensors,
    quantise_file,
    quantised_tensors,
)
from nextn.tools.quantise.encode import Encoder
from nextn.tools.quantise.mixes import ModelShape
from tests.support.tiny_checkpoints import write_tiny_checkpoint
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

BIG = {"hidden": 256, "head_dim": 64, "ffn": 512}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "llama", types="F16", **BIG)
    return path


def formats(path: Path) -> dict[str, str]:
    with open_checkpoint(path) as checkpoint:
        return {name: tensor.block_type.name for name, tensor in checkpoint.tensors.items()}


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_every_tensor_is_what_the_encoder_makes_of_it(
    tmp_path: Path, model: Path, file_type: str
) -> None:
    output = tmp_path / "out.gguf"
    result = quantise_file(model, output, Settings(file_type), threads=2)
    with open_checkpoint(model) as source, open_checkpoint(output) as made:
        assert list(made.tensors) == list(source.tensors)
        for plan in result.plans:
            tensor = made.tensors[plan.name]
            assert (tensor.shape, tensor.block_type) == (plan.shape, plan.target)
            values = source.tensors[plan.name].decode()
            assert tensor.data.tobytes() == encode(plan.target, values).tobytes(), plan.name
        assert made.metadata["general.file_type"] == FILE_TYPES[file_type].id
        assert made.metadata["general.quantization_version"] == 2
        for key, value in source.encoded_metadata.items():
            if key not in ("general.file_type", "general.quantization_version"):
                assert bytes(made.encoded_metadata[key].data) == bytes(value.data), key
        assert result.target_bytes == sum(tensor.nbytes for tensor in made.tensors.values())


@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q4_0", "F16"])
def test_the_gguf_package_reads_it(tmp_path: Path, model: Path, file_type: str) -> None:
    quantise_file(model, tmp_path / "out.gguf", Settings(file_type))
    reader = GGUFReader(tmp_path / "out.gguf")
    found = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert found == formats(tmp_path / "out.gguf")


def reference_logits(path: Path, tokens: list[int]) -> np.ndarray:
    executor = create_executor(
        open_checkpoint(path), backend="reference", context_length=32, block_count=1
    )
    count = len(tokens)
    rows = Rows(
        np.array(tokens, np.int32),
        np.arange(count, dtype=np.int32),
        np.zeros(count, np.int32),
        np.ones(count, np.bool_),
        np.array([[0]], np.int32),
    )
    return executor.step(rows)


@pytest.mark.parametrize("file_type", ["Q4_K_M", "Q5_0", "IQ4_NL", "MXFP4", "BF16"])
def test_llama_cpp_runs_it(tmp_path: Path, model: Path, file_type: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    output = tmp_path / "out.gguf"
    quantise_file(model, output, Settings(file_type))
    theirs = llama_cpp.Llama(
        str(output), n_ctx=32, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False
    )
    tokens = [5, 9, 40, 77]
    theirs.eval(tokens)
    logits = np.array(theirs.scores[: len(tokens)])
    theirs.close()
    expected = reference_logits(output, tokens)
    assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()


def test_a_head_stays_at_8_bits_unless_told_otherwise(tmp_path: Path) -> None:
    model, output = tmp_path / "model.gguf", tmp_path / "out.gguf"
    write_tiny_model(model, "llama", types="F16", head=TinyHead(own_output=True), **BIG)

    def head_formats(settings: Settings) -> set[str]:
        result = quantise_file(model, output, settings)
        assert any("prediction head is kept" in note for note in result.notes)
        found = formats(output)
        return {found[plan.name] for plan in result.plans if plan.head and len(plan.shape) > 1}

    assert head_formats(Settings("Q4_K_S")) == {"Q8_0"}
    assert head_formats(Settings("F16")) == {"F16"}
    assert head_formats(Settings("Q8_0", head_type="F16")) == {"F16"}
    assert head_formats(Settings("Q4_K_S", head_type="Q5_K")) == {"Q5_K"}
    assert head_formats(Settings("Q4_K_S", head_type=MIX)) >= {"Q4_K"}
    assert head_formats(Settings("Q4_K_S", tensor_types=[("nextn|blk.2", "Q6_K")])) == {"Q6_K"}


def test_a_file_with_a_head_alone_is_quantised_as_a_head(tmp_path: Path) -> None:
    write_tiny_head(tmp_path / "mtp.gguf", "llama", TinyHead(), types="F32", **BIG)
    quantise_file(tmp_path / "mtp.gguf", tmp_path / "out.gguf", Settings("Q4_K_M"))
    found = set(formats(tmp_path / "out.gguf").values())
    assert "Q8_0" in found
    assert found <= {"Q8_0", "F32", "I32"}


def test_a_head_that_is_declared_but_missing_is_told(tmp_path: Path) -> None:
    write_tiny_model(
        tmp_path / "m.gguf", "llama", types="F16", metadata={"llama.nextn_predict_layers": 1}, **BIG
    )
    result = quantise_file(tmp_path / "m.gguf", None, Settings("Q8_0"))
    assert any("which is missing" in note for note in result.notes)


def test_the_first_pattern_that_fits_counts(model: Path) -> None:
    settings = Settings(
        "Q4_K_M",
        tensor_types=[(r"blk\.0\.ffn_down", "Q8_0"), ("ffn_(down|up)", "Q5_1"), ("ffn_up", "F16")],
        output_type="BF16",
    )
    found = {p.name: p.target.name for p in quantise_file(model, None, settings).plans}
    assert found["blk.0.ffn_down.weight"] == "Q8_0"
    assert found["blk.1.ffn_down.weight"] == found["blk.1.ffn_up.weight"] == "Q5_1"
    assert found["token_embd.weight"] == "BF16"  # which is the output matrix, too
    assert found["blk.1.ffn_norm.weight"] == "F32"


def test_a_format_that_is_asked_for_is_given_even_if_it_brings_nothing_back(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "m.gguf", "llama", types="Q4_0", **BIG)
    settings = Settings("Q8_0", tensor_types=[("ffn_up", "Q8_0")], allow_requantize=True)
    found = {
        p.name: p.target.name for p in quantise_file(tmp_path / "m.gguf", None, settings).plans
    }
    assert found["blk.0.ffn_up.weight"] == "Q8_0"
    assert found["blk.0.ffn_down.weight"] == "Q4_0"


def test_a_head_that_becomes_coarse_is_told(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_tiny_model(model, "llama", types="F16", head=TinyHead(), **BIG)

    def told(settings: Settings) -> bool:
        return any(
            "coarser than Q8_0" in note for note in quantise_file(model, None, settings).notes
        )

    assert not told(Settings("Q4_K_M"))
    assert told(Settings("Q4_K_M", head_type="Q6_K"))
    # A pattern for the trunk's matrices fits those of the head, too.
    assert told(Settings("Q4_K_M", tensor_types=[("ffn_up", "Q4_K")]))
    assert not told(Settings("Q4_K_M", tensor_types=[(r"blk\.[01]\.ffn_up", "Q4_K")]))


def test_rows_that_do_not_fit_are_told(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_tiny_model(model, "llama", types="F16", hidden=192, head_dim=48, ffn=256)
    notes = quantise_file(model, None, Settings("Q4_K_S")).notes
    assert any("become Q5_0: their rows are no multiples of 256" in note for note in notes)
    assert not quantise_file(model, None, Settings("Q4_0", pure=True)).notes


def test_pure_gives_all_matrices_one_format(model: Path) -> None:
    found = quantise_file(model, None, Settings("Q4_K_M", pure=True)).plans
    assert {plan.target.name for plan in found if len(plan.shape) > 1} == {"Q4_K"}


def test_small_letters_are_as_good(model: Path) -> None:
    plans = quantise_file(model, None, Settings("q4_k_m", tensor_types=[("attn_q", "q6_k")])).plans
    assert {plan.target.name for plan in plans if "attn_q" in plan.name} == {"Q6_K"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("Q4_K_X"), "Q4_K_M"),
        (Settings("Q8_0", tensor_types=[("attn", "Q9_0")]), "block format 'Q9_0' is unknown"),
        (Settings("Q8_0", tensor_types=[("attn(", "Q8_0")]), "no regular expression"),
        (Settings("Q8_0", tensor_types=[("ffn_dwn", "Q6_K")]), "'ffn_dwn' fits no matrix"),
        (Settings("Q8_0", tensor_types=[("_norm", "F16")]), "'_norm' fits no matrix"),
        (Settings("Q8_0", head_type="Q4_K_M"), "unknown"),
    ],
)
def test_what_is_unknown_is_refused(tmp_path: Path, settings: Settings, message: str) -> None:
    write_tiny_model(tmp_path / "m.gguf", "llama", types="F16", head=TinyHead(), **BIG)
    with pytest.raises(RequestError, match=message):
        quantise_file(tmp_path / "m.gguf", tmp_path / "out.gguf", settings)
    assert not (tmp_path / "out.gguf").exists()


def test_quantised_tensors_are_changed_only_if_allowed(tmp_path: Path) -> None:
    model, output = tmp_path / "model.gguf", tmp_path / "out.gguf"
    write_tiny_model(model, "llama", types={"default": "Q8_0", "ffn_up": "Q4_0"}, **BIG)
    with pytest.raises(RequestError, match="--allow-requantize"):
        quantise_file(model, output, Settings("Q5_0"))
    assert not output.exists()
    quantise_file(model, output, Settings("Q5_0", allow_requantize=True))
    found = formats(output)
    assert found["blk.0.attn_q.weight"] == "Q5_0"
    # More bits would not bring back what is gone.
    assert found["blk.0.ffn_up.weight"] == "Q4_0"
    quantise_file(model, output, Settings("BF16", allow_requantize=True))
    assert {kind for name, kind in formats(output).items() if "ffn_up" in name} == {"BF16"}


def test_a_model_that_has_the_format_already_is_copied(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "m.gguf", "llama", types="Q8_0", **BIG)
    result = quantise_file(tmp_path / "m.gguf", tmp_path / "out.gguf", Settings("Q8_0"))
    assert not any(plan.changes for plan in result.plans)
    assert formats(tmp_path / "out.gguf") == formats(tmp_path / "m.gguf")


def test_a_model_in_parts_becomes_one_file(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "whole.gguf", "llama", types="F16", **BIG)
    write_tiny_model(tmp_path / "part.gguf", "llama", types="F16", tensors_per_part=5, **BIG)
    first = next(tmp_path.glob("part-00001-*"))
    for name, source in (("a.gguf", tmp_path / "whole.gguf"), ("b.gguf", first)):
        quantise_file(source, tmp_path / name, Settings("Q4_K_M"))
    with (
        open_checkpoint(tmp_path / "a.gguf") as one,
        open_checkpoint(tmp_path / "b.gguf") as other,
    ):
        assert one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            assert tensor.data.tobytes() == other.tensors[name].data.tobytes()
        assert "split.count" not in other.metadata


def test_the_input_is_never_written_over(model: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(OutputError, match="one of the inputs"):
        quantise_file(model, model, Settings("Q8_0"))
    assert model.read_bytes() == before


def test_a_bad_value_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_tiny_model(model, "llama", types="F32", **BIG)
    with open_checkpoint(model) as source:
        tensor = source.tensors["blk.1.ffn_up.weight"]
        offset = tensor.offset + 4 * (7 * tensor.shape[1] + 3)
    with model.open("r+b") as file:
        file.seek(offset)
        file.write(np.float32(np.nan).tobytes())
    with pytest.raises(FileFormatError, match=r"blk\.1\.ffn_up\.weight: row 7 "):
        quantise_file(model, tmp_path / "out.gguf", Settings("Q4_K_M"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_checkpoint_on_the_lattice_of_q4_0_is_recognised_and_kept(tmp_path: Path) -> None:
    model, output = tmp_path / "model.gguf", tmp_path / "out.gguf"
    write_tiny_model(tmp_path / "q4_0.gguf", "llama", types="Q4_0", **BIG)
    quantise_file(tmp_path / "q4_0.gguf", model, Settings("BF16", allow_requantize=True))
    result = quantise_file(model, output, Settings("Q4_0", output_type="Q4_0"))
    assert any("Q4_0 keeps them exactly" in note for note in result.notes)
    with open_checkpoint(model) as source, open_checkpoint(output) as made:
        for name, tensor in made.tensors.items():
            values = encode(ENCODED_TYPES["BF16"], tensor.decode())
            if len(tensor.shape) > 1:
                assert values.tobytes() == source.tensors[name].data.tobytes()
    result = quantise_file(model, None, Settings("Q4_K_M"))
    assert any("take type Q4_0" in note for note in result.notes)


def test_experts_are_weighed_each_by_its_own_importance() -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((3, 8, 256)).astype(np.float32)
    sums = rng.lognormal(0, 1, (3, 256)).astype(np.float32) * np.float32(50)
    entry = InputSquares(sums, np.array([50, 0, 20], np.float32))  # one was never chosen
    data = encode(F32, values)

    def odd_pieces() -> list[bytes]:
        raw = data.tobytes()
        return [raw[start : start + 777] for start in range(0, len(raw), 777)]

    name = "blk.0.ffn_up_exps.weight"
    sources: list[NewTensor] = [
        TensorBytes(values.shape, F32, data),
        TensorPieces(values.shape, F32, odd_pieces),
    ]
    expected = [
        encode(ENCODED_TYPES["Q4_K"], values[0], usable_importance(sums[0] / 50.0)),
        encode(ENCODED_TYPES["Q4_K"], values[1]),
        encode(ENCODED_TYPES["Q4_K"], values[2], usable_importance(sums[2] / 20.0)),
    ]
    for source in sources:
        plans = plan_tensors({name: source}, ModelShape(1, experts=3), Settings("Q4_K_S"))
        encoder = Encoder(Path("model"), threads=1)
        made = quantised_tensors({name: source}, plans, {name: entry}, encoder)[name]
        assert isinstance(made, TensorPieces)
        found = b"".join(bytes(np.asarray(piece)) for piece in made.pieces())
        assert found == b"".join(each.tobytes() for each in expected)


def test_pieces_that_end_early_are_an_error() -> None:
    short = TensorPieces((4, 32), F32, lambda: [bytes(500)])
    plans = plan_tensors({"a.weight": short}, ModelShape(1), Settings("Q8_0"))
    made = quantised_tensors({"a.weight": short}, plans, {}, Encoder(Path("m"), 1))["a.weight"]
    assert isinstance(made, TensorPieces)
    with pytest.raises(NextnError, match="became shorter"):
        list(made.pieces())


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_safetensors_folder_is_converted_on_the_way(tmp_path: Path, family: str) -> None:
    folder = write_tiny_checkpoint(tmp_path / "folder", family)
    convert(folder, tmp_path / "converted.gguf")
    for name in ("Q4_0", "Q8_0"):
        twice = quantise_file(tmp_path / "converted.gguf", tmp_path / "a.gguf", Settings(name))
        once = quantise_file(folder, tmp_path / "b.gguf", Settings(name))
        assert once.plans == twice.plans
        assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()
    with pytest.raises(OutputError, match="one of the inputs"):
        quantise_file(folder, next(folder.glob("*.safetensors")), Settings("Q8_0"))
