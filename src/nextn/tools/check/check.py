"""The check itself: finds the head, looks at its file, runs it, and puts all together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nextn.engine.memory import available_memory
from nextn.errors import FileFormatError, NextnError, UnsupportedModelError
from nextn.files import Checkpoint, open_checkpoint
from nextn.heads import AUTOMATIC, HeadOrigin
from nextn.heads.find import head_candidates, names_trunk
from nextn.models import load_model_plan
from nextn.models.head_tensors import HEAD_LAYERS_KEY, is_head_only
from nextn.models.nextn_head import HeadedModel, load_head_plan
from nextn.tools.check.costs import measure_costs
from nextn.tools.check.experiments import HeadAlone, judge, run_experiments
from nextn.tools.check.findings import Finding, Severity, by_severity, fault, has, note
from nextn.tools.check.layout import HeadLayout, check_layout, find_layout, layout_error
from nextn.tools.check.pairing import check_pairing
from nextn.tools.check.report import ALL, Acceptance, CheckReport, Measured
from nextn.tools.check.texts import TextResults, TextSettings, write_texts
from nextn.tools.check.values import TensorFacts, check_values, read_facts

if TYPE_CHECKING:
    from nextn.files.sources import ModelSource

Progress = Callable[[str, int, int | None], None]
"""Told about each activity, how far it is, and how far it goes."""

_LEAST_POSITIONS = 16  # of texts, from which acceptance can be told


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What is asked for.

    Attributes:
        head: a file with a head; "auto" takes the one that the model would run with, or the broken
            one that stands in its way.
        quick: look at the files only, and run nothing.
        thorough: try the rare repairs, too, on a head that seems well.
        texts: what the model writes.
        threads: that compute; by default one per physical core.
        cache_type: how keys and values are kept; see `nextn.load`.
    """

    head: str = AUTOMATIC
    quick: bool = False
    thorough: bool = False
    texts: TextSettings = field(default_factory=TextSettings)
    threads: int | None = None
    cache_type: str = "f16"


def check_head(
    source: ModelSource, settings: CheckSettings | None = None, progress: Progress | None = None
) -> CheckReport:
    """Check the prediction head of a model.

    Args:
        source: the model.
        settings: what to do.
        progress: told about everything that takes time.

    Raises:
        NextnError: the model cannot be read or is no model, the head's file does not exist, or the
            settings are impossible. Whatever is wrong with the head is in the report instead.
    """
    settings = settings or CheckSettings()
    if not settings.quick:
        settings.texts.load()
    report = progress or _silent
    # Formats that nextn cannot compute with are no reason not to look at the rest.
    trunk = open_checkpoint(source.path, to_copy=True)
    if is_head_only(trunk):
        raise UnsupportedModelError(
            f"{trunk.path}: holds a prediction head without its model; name the model, and give "
            "this file with --head"
        )
    origin, path = _find(trunk, settings.head, source.head)
    if origin is None or path is None:
        return _no_head(source, trunk)
    try:
        head = trunk if origin == "inside" else open_checkpoint(path, to_copy=True)
        layout = find_layout(trunk, head)
    except FileFormatError as error:
        return _finish(source, trunk, path, origin, None, (), [layout_error(error)], None, None)
    if not layout.tensors:
        return _finish(
            source, trunk, path, origin, layout, (), [_declared_only(head, layout)], None, None
        )
    findings = [*check_layout(trunk, head, layout), *check_pairing(trunk, head)]
    facts = read_facts(
        head, layout, lambda done, total: report(f"reading {path.name}", done, total)
    )
    findings += check_values(trunk, head, layout, facts)
    if settings.quick:
        reason: str | None = "only the files were looked at, as asked"
        return _finish(source, trunk, path, origin, layout, facts, findings, None, reason)
    model, reason = _describe(trunk, head, findings)
    measured = None
    if model is not None:
        measured, reason = _measure(source, path, model, settings, findings, report)
    return _finish(source, trunk, path, origin, layout, facts, findings, measured, reason)


def _silent(_activity: str, _done: int, _total: int | None) -> None:
    pass


def _find(
    trunk: Checkpoint, head: str, published: Path | None
) -> tuple[HeadOrigin | None, Path | None]:
    """Which head is to be checked: the first that there is, whether it is well or not."""
    if head != AUTOMATIC:
        return "given", Path(head)
    for origin, path in head_candidates(trunk, published):
        if origin == "shipped":
            with open_checkpoint(path) as file:
                if not names_trunk(file, trunk):
                    continue
        return origin, path
    return None, None


def _no_head(source: ModelSource, trunk: Checkpoint) -> CheckReport:
    key = HEAD_LAYERS_KEY.format(arch=trunk.architecture)
    finding = note(
        "no-head",
        key,
        "the model declares no head and holds none, and none for it was found; `nextn train` makes "
        "one for the families that nextn runs",
    )
    return CheckReport(
        source.name, str(trunk.path), None, None, None, (), (finding,), None, "there is no head"
    )


def _declared_only(head: Checkpoint, layout: HeadLayout) -> Finding:
    key = HEAD_LAYERS_KEY.format(arch=head.architecture)
    if not layout.declared:
        return fault("no-head", key, "is missing, and the file holds no tensors of a head")
    return fault(
        "declared-but-absent",
        key,
        f"declares {layout.declared} block(s) of a head, but the file holds none of its tensors: a "
        "tool dropped them; take the original file, or attach a head",
    )


def _describe(
    trunk: Checkpoint, head: Checkpoint, findings: list[Finding]
) -> tuple[HeadedModel | None, str | None]:
    """The model as nextn runs it, or why it cannot; adds what only that shows to the findings."""
    try:
        load_model_plan(trunk)
    except NextnError as error:
        text = str(error).removeprefix(f"{trunk.path}: ")
        return None, f"nextn does not run this model ({text}), so acceptance cannot be measured"
    try:
        model = load_head_plan(trunk, head)
        model.check_finite()
    except UnsupportedModelError as error:
        return None, f"nextn does not run this head ({error})"
    except NextnError as error:
        if not has(findings, Severity.FAULT):
            findings.append(fault("refused", str(head.path), str(error)))
        return None, "a head with such faults cannot be run"
    return model, None


def _measure(
    source: ModelSource,
    path: Path,
    model: HeadedModel,
    settings: CheckSettings,
    findings: list[Finding],
    report: Progress,
) -> tuple[Measured | None, str | None]:
    """Run the model; adds what that shows to the findings."""
    import nextn

    name = source.name
    report(f"loading {name}", 0, None)
    try:
        loaded = nextn.load(
            source,
            head=path,
            threads=settings.threads,
            cache_type=settings.cache_type,
            max_sequences=1,
            offline=True,
        )
    except NextnError as error:
        return None, f"it could not be loaded to be measured: {error}"
    with loaded:
        texts = write_texts(
            loaded,
            settings.texts,
            lambda done, total: report(f"writing texts with {name}", done, total),
        )
        total = texts.total
        if total.steps < _LEAST_POSITIONS:
            return None, f"the model writes too little to tell: {total.steps} tokens"
        costs = measure_costs(
            model,
            loaded.executor,
            total.acceptance_at,
            cache_type=settings.cache_type,
            measured_speed_up=texts.speed_up,
        )
    experiments = None
    need = sum(4 * weight.rows * weight.columns for weight in model.head.weights)
    available = available_memory()
    if available is None or need < available // 2:
        report(f"experimenting with {path.name}", 0, None)
        experiments = run_experiments(HeadAlone(model, texts.texts), rare=settings.thorough or None)
        findings += judge(experiments)
    else:
        findings.append(
            note("no-experiments", str(path), f"experiments with this head need {need:,} bytes")
        )
    if texts.different is not None:
        findings.append(
            fault(
                "other-text",
                texts.different,
                "a text of this category is another one with drafts; that is a defect of nextn, "
                "please report it",
            )
        )
    return Measured(_acceptance(texts), texts.different is None, experiments, costs), None


def _acceptance(texts: TextResults) -> tuple[Acceptance, ...]:
    return tuple(
        Acceptance(name, one.steps, tuple(one.acceptance_at))
        for name, one in [*texts.forced.items(), (ALL, texts.total)]
    )


def _finish(
    source: ModelSource,
    trunk: Checkpoint,
    path: Path,
    origin: HeadOrigin,
    layout: HeadLayout | None,
    facts: list[TensorFacts] | tuple[TensorFacts, ...],
    findings: list[Finding],
    measured: Measured | None,
    not_measured: str | None,
) -> CheckReport:
    return CheckReport(
        source.name,
        str(trunk.path),
        str(path),
        origin,
        layout,
        tuple(facts),
        tuple(by_severity(findings)),
        measured,
        not_measured,
    )
