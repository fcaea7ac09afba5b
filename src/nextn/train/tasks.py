"""What the trunk is asked to write: answers to seed prompts, and to questions that it invents.

A text's number decides everything about it, so that work can stop and go on at any time. A question
is invented by letting the model go on where the user's turn begins (Xu et al., 2024, "Magpie"); a
few seed prompts of one category before it lead to a question of that kind.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from nextn.errors import NextnError, RequestError
from nextn.prompts import Prompt
from nextn.sampling import SamplingParams
from nextn.train.settings import DataSettings
from nextn.train.writer import Task, Text

FREE = "free"
"""Category of texts whose question the model invented without examples."""

_MOST_QUESTION = 96
_LEAST_QUESTION = 2
_EXAMPLES = 3
_GUIDED_SHARE = 0.7
_TEMPERATURES = (0.6, 0.8, 0.8, 1.0)
_QUESTION_PARAMS = SamplingParams(temperature=1.0, top_k=0, top_p=0.95, min_p=0.02)
_INVENTING = "question"
# Ends the work if the model invents nothing useful, whatever the prompts.
_MOST_FAILURES = 2000


class Prompter(Protocol):
    """Turns conversations into tokens; `ChatPrompter` and `PlainPrompter` do."""

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Up to where the answer begins."""
        ...

    def question(self, examples: Sequence[str]) -> list[int] | None:
        """Up to where a user's turn begins, after the turns of examples; None if it has none."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        ...


class Tasks:
    """A source of tasks; see `nextn.train.writer.TaskSource`.

    Args:
        prompter: of the model.
        seeds: the prompts; one that is there twice is taken twice as often.
        settings: how many texts of which kind.
        longest: most tokens of a prompt and its answer together.
        ends: tokens that end a turn.
        done: numbers of the texts that are there.
    """

    def __init__(
        self,
        prompter: Prompter,
        seeds: Sequence[Prompt],
        settings: DataSettings,
        *,
        longest: int,
        ends: Collection[int],
        done: Collection[int] = (),
    ) -> None:
        self._prompter = prompter
        self._seeds = seeds
        self._by_category: dict[str, list[Prompt]] = {}
        for seed in seeds:
            known = self._by_category.setdefault(seed.category, [])
            if seed not in known:
                known.append(seed)
        self._settings = settings
        self._longest = longest
        self._ends = frozenset(ends)
        self._done = frozenset(done)
        self._next = 0
        self._failures = 0
        self._answers: list[Task] = []

    def next_task(self) -> Task | None:
        """See `TaskSource`."""
        while not self._answers:
            index = self._next
            self._next += 1
            if index in self._done:
                continue
            task = self._first_task(index)
            if task is not None:
                return task
            self._failed()
        return self._answers.pop()

    def finished(self, text: Text) -> Text | None:
        """See `TaskSource`; an invented question becomes a task of its own."""
        task = text.task
        if not task.category.startswith(_INVENTING):
            self._failures = 0
            return text
        written = text.tokens[text.written_from :].tolist()
        complete = written[-1] in self._ends
        question = self._prompter.text(written[:-1]).strip()
        category = task.category.removeprefix(_INVENTING + ":")
        answer = None
        if complete and len(written) > _LEAST_QUESTION and question:
            messages = [{"role": "user", "content": question}]
            answer = self._answer_task(task.index, category, messages)
        if answer is None:
            self._failed()
        else:
            self._answers.append(answer)
        return None

    def _failed(self) -> None:
        self._failures += 1
        if self._failures > _MOST_FAILURES:
            raise RequestError(
                "the model writes nothing that can be used: its questions are empty or endless, "
                "and the prompts too long; give other prompts with --prompts"
            )

    def _first_task(self, index: int) -> Task | None:
        rng = self._rng(index, 0)
        invents = rng.random() < self._settings.free_share
        if invents:
            category, examples = FREE, []
            if rng.random() < _GUIDED_SHARE:
                category = self._seeds[int(rng.integers(len(self._seeds)))].category
                known = self._by_category[category]
                chosen = rng.choice(len(known), min(_EXAMPLES, len(known)), replace=False)
                examples = [known[int(number)].last for number in chosen]
            prompt = self._prompter.question(examples)
            if prompt is not None and len(prompt) + _MOST_QUESTION <= self._longest:
                return Task(
                    index,
                    f"{_INVENTING}:{category}",
                    prompt,
                    _QUESTION_PARAMS,
                    int(rng.integers(1 << 62)),
                    _MOST_QUESTION,
                )
        seed = self._seeds[int(rng.integers(len(self._seeds)))]
        return self._answer_task(index, seed.category, seed.messages)

    def _answer_task(
        self, index: int, category: str, messages: Sequence[dict[str, str]]
    ) -> Task | None:
        rng = self._rng(index, 1)
        greedy = rng.random() < self._settings.greedy_share
        temperature = 0.0 if greedy else float(rng.choice(_TEMPERATURES))
        try:
            prompt = self._prompter.prompt(messages)
        except NextnError:
            # A template may refuse what the model itself invented.
            return None
        room = self._longest - len(prompt)
        if room < self._settings.most_written // 2 or not prompt:
            return None
        params = SamplingParams(temperature=temperature)
        most = min(room, self._settings.most_written)
        return Task(index, category, prompt, params, int(rng.integers(1 << 62)), most)

    def _rng(self, index: int, stage: int) -> np.random.Generator:
        return np.random.default_rng([self._settings.seed, index, stage])


class HeldOutTasks:
    """The tasks of validation: every prompt once, at temperature 0; see `TaskSource`."""

    def __init__(
        self,
        prompter: Prompter,
        prompts: Sequence[Prompt],
        settings: DataSettings,
        *,
        longest: int,
        done: Collection[int] = (),
    ) -> None:
        counts: dict[str, int] = {}
        self._tasks: list[Task] = []
        for index, prompt in enumerate(prompts):
            counts[prompt.category] = counts.get(prompt.category, 0) + 1
            tokens = prompter.prompt(prompt.messages)
            room = longest - len(tokens)
            wanted = counts[prompt.category] <= settings.held_out and index not in done
            if wanted and tokens and room >= settings.most_written // 2:
                most = min(room, settings.most_written)
                params = SamplingParams(temperature=0.0)
                self._tasks.append(Task(index, prompt.category, tokens, params, 0, most))
        self._tasks.reverse()

    @property
    def left(self) -> int:
        """Tasks that have not been given out."""
        return len(self._tasks)

    def next_task(self) -> Task | None:
        """See `TaskSource`."""
        return self._tasks.pop() if self._tasks else None

    def finished(self, text: Text) -> Text | None:
        """See `TaskSource`."""
        return text
