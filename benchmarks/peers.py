"""The engines that are compared, behind one small class each: open, decode, close.

llama.cpp is driven through `llama-cpp-python`, ik_llama.cpp through `ik-llama-cpp-python`. Their
libraries have the same names, so a process can load only one of them: see workers.py.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BATCH = 512
"""Tokens of a step at most, and of a chunk of a prompt."""

CACHE_TYPES = {"f16": 1, "q8_0": 8}
"""Numbers of ggml's types."""


class Engine(Protocol):
    """A loaded model, and contexts with some sequences each.

    Attributes:
        vocab_size: width of the logits.
    """

    vocab_size: int

    def open(self, *, context: int, sequences: int, cache_type: str, rollback: bool) -> int:
        """Make a context.

        Args:
            context: positions of each sequence.
            sequences: how many.
            cache_type: "f16" or "q8_0".
            rollback: positions will be computed again, not only further ones.

        Returns:
            Its number.
        """
        ...

    def decode(
        self,
        number: int,
        tokens: Sequence[Sequence[int]],
        position: int,
        logits: int,
        *,
        first: int = 0,
    ) -> NDArray[np.float32]:
        """One step: tokens of several sequences, all from `position` on.

        Args:
            number: of the context.
            tokens: of each sequence.
            position: of the first token of each.
            logits: how many of the last tokens of each want logits.
            first: the first of the sequences.

        Returns:
            float32 [sequences * logits, vocab_size]: of the last `logits` tokens of each sequence;
            valid until the next step.
        """
        ...

    def close(self, number: int) -> None:
        """Give a context back."""
        ...


class Nextn:
    """nextn's executor. Each context has weights of its own, so have one at a time."""

    def __init__(self, path: str, *, threads: int) -> None:
        from nextn.files import open_checkpoint

        self._checkpoint = open_checkpoint(path)
        self._threads = threads
        self._contexts: dict[int, tuple[Any, NDArray[np.int32]]] = {}
        self.vocab_size = self._checkpoint.tensors["token_embd.weight"].shape[0]

    def open(self, *, context: int, sequences: int, cache_type: str, rollback: bool) -> int:
        """See `Engine.open`."""
        from nextn.backends import BLOCK_TOKENS, create_executor

        del rollback  # it is free
        blocks = -(-context // BLOCK_TOKENS)
        further: dict[str, Any] = {}
        if has_cache_types():
            further["cache_type"] = cache_type
        elif cache_type != "f16":
            raise ValueError(f"this nextn has no cache of {cache_type}")
        executor = create_executor(
            self._checkpoint,
            threads=self._threads,
            context_length=context,
            block_count=blocks * sequences,
            max_rows=BATCH,
            **further,
        )
        tables = np.arange(blocks * sequences, dtype=np.int32).reshape(sequences, blocks)
        self._contexts[number := len(self._contexts)] = (executor, tables)
        return number

    def decode(
        self,
        number: int,
        tokens: Sequence[Sequence[int]],
        position: int,
        logits: int,
        *,
        first: int = 0,
    ) -> NDArray[np.float32]:
        """See `Engine.decode`."""
        from nextn.backends import Rows

        executor, tables = self._contexts[number]
        count, sequences = len(tokens[0]), len(tokens)
        result: NDArray[np.float32] = executor.step(
            Rows(
                np.asarray(tokens, np.int32).reshape(-1),
                np.tile(np.arange(position, position + count, dtype=np.int32), sequences),
                np.repeat(np.arange(first, first + sequences, dtype=np.int32), count),
                np.tile(np.arange(count) >= count - logits, sequences),
                tables,
            )
        )
        return result

    def close(self, number: int) -> None:
        """See `Engine.close`."""
        self._contexts[number][0].close()


class _Llama:
    """What llama.cpp and ik_llama.cpp have in common; `api` is the Python module of one of them."""

    def __init__(self, api: Any, library: Any, path: str, parameters: Any) -> None:
        self._api = api
        self._library = library
        api.llama_backend_init()
        self._model = api.llama_model_load_from_file(path.encode(), parameters)
        if not self._model:
            raise OSError(f"{path}: the engine cannot load it")
        self.vocab_size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))
        self._batch = api.llama_batch_init(BATCH, 0, 1)
        self._contexts: dict[int, Any] = {}
        self._lengths: dict[int, dict[int, int]] = {}
        library.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
        library.llama_get_logits.argtypes = [ctypes.c_void_p]

    def _open(self, parameters: Any) -> int:
        context = self._api.llama_init_from_model(self._model, parameters)
        if not context:
            raise OSError("the engine cannot make this context")
        self._contexts[number := len(self._contexts)] = context
        self._lengths[number] = {}
        return number

    def _forget(self, context: Any, sequence: int, position: int) -> None:
        raise NotImplementedError

    def decode(
        self,
        number: int,
        tokens: Sequence[Sequence[int]],
        position: int,
        logits: int,
        *,
        first: int = 0,
    ) -> NDArray[np.float32]:
        """See `Engine.decode`."""
        context, lengths = self._contexts[number], self._lengths[number]
        count, batch = len(tokens[0]), self._batch
        row = 0
        for sequence, its_tokens in enumerate(tokens, first):
            if lengths.get(sequence, 0) > position:
                self._forget(context, sequence, position)
            lengths[sequence] = position + count
            for n, token in enumerate(its_tokens):
                batch.token[row] = token
                batch.pos[row] = position + n
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = sequence
                batch.logits[row] = n >= count - logits
                row += 1
        batch.n_tokens = row
        if self._api.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        wanted = min(logits, count) * len(tokens)
        if wanted == 0:
            return np.zeros((0, self.vocab_size), np.float32)
        pointer = self._library.llama_get_logits(context)
        return np.ctypeslib.as_array(pointer, shape=(wanted, self.vocab_size))

    def close(self, number: int) -> None:
        """See `Engine.close`."""
        self._api.llama_free(self._contexts[number])


class LlamaCpp(_Llama):
    """llama.cpp, which repacks weights for the processor by itself.

    Args:
        path: the model file.
        threads: threads that compute.
        flash: use flash attention.
    """

    def __init__(self, path: str, *, threads: int, flash: bool = True) -> None:
        import llama_cpp

        self._threads = threads
        self._flash = flash
        self._log = llama_cpp.llama_log_callback(_ignore)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        # Weights in memory of its own: with a mapped file, some are read from the page cache.
        if hasattr(parameters, "load_mode"):
            parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        else:
            parameters.use_mmap = False
        super().__init__(llama_cpp, llama_cpp.llama_cpp._lib, path, parameters)

    def open(
        self,
        *,
        context: int,
        sequences: int = 1,
        cache_type: str = "f16",
        rollback: bool = True,
    ) -> int:
        """See `Engine.open`."""
        api = self._api
        parameters = api.llama_context_default_params()
        parameters.n_ctx = context * sequences
        parameters.n_seq_max = sequences
        parameters.kv_unified = False
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = self._threads
        parameters.type_k = parameters.type_v = CACHE_TYPES[cache_type]
        parameters.flash_attn_type = (
            api.LLAMA_FLASH_ATTN_TYPE_ENABLED if self._flash else api.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        # Layers with a window keep only the window, unless positions are to be forgotten.
        parameters.swa_full = rollback
        return self._open(parameters)

    def _forget(self, context: Any, sequence: int, position: int) -> None:
        memory = self._api.llama_get_memory(context)
        if not self._api.llama_memory_seq_rm(memory, sequence, position, -1):
            raise RuntimeError("llama.cpp cannot forget positions")


class IkLlamaCpp(_Llama):
    """ik_llama.cpp.

    Args:
        path: the model file.
        threads: threads that compute.
        flash: use flash attention.
        repack: run-time repacking: weights are laid out in interleaved rows when they are loaded.
    """

    def __init__(self, path: str, *, threads: int, flash: bool = True, repack: bool = True) -> None:
        from ik_llama_cpp import _ctypes_api as api

        library = api._lib
        self._threads = threads
        self._flash = flash
        self._log = _LOG_CALLBACK(_ignore)
        library.llama_log_set(self._log, None)
        library.llama_kv_cache_seq_rm.restype = ctypes.c_bool
        library.llama_kv_cache_seq_rm.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int32,
            ctypes.c_int32,
            ctypes.c_int32,
        ]
        parameters = api.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.use_mmap = False
        parameters.repack_tensors = repack
        super().__init__(api, library, path, parameters)

    def open(self, *, context: int, sequences: int, cache_type: str, rollback: bool) -> int:
        """See `Engine.open`."""
        del rollback  # it always keeps all positions
        parameters = self._api.llama_context_default_params()
        parameters.n_ctx = context * sequences
        parameters.n_seq_max = sequences
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = self._threads
        parameters.type_k = parameters.type_v = CACHE_TYPES[cache_type]
        parameters.flash_attn = self._flash
        return self._open(parameters)

    def _forget(self, context: Any, sequence: int, position: int) -> None:
        if not self._library.llama_kv_cache_seq_rm(context, sequence, position, -1):
            raise RuntimeError("ik_llama.cpp cannot forget positions")


ENGINES: dict[str, Callable[..., Engine]] = {
    "nextn": Nextn,
    "llama.cpp": LlamaCpp,
    "ik_llama.cpp": IkLlamaCpp,
}

VARIANTS: dict[str, dict[str, dict[str, bool]]] = {
    "nextn": {"": {}},
    "llama.cpp": {
        "flash attention": {"flash": True},
        "no flash attention": {"flash": False},
    },
    "ik_llama.cpp": {
        "flash attention, repacked": {"flash": True, "repack": True},
        "flash attention": {"flash": True, "repack": False},
        "no flash attention, repacked": {"flash": False, "repack": True},
        "no flash attention": {"flash": False, "repack": False},
    },
}
"""Ways to run each engine, any of which may be the fastest for a step: name -> settings."""

_MODULES = {"nextn": "nextn", "llama.cpp": "llama_cpp", "ik_llama.cpp": "ik_llama_cpp"}
_LOG_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def available_engines() -> list[str]:
    """The engines that are installed, nextn first; none of them is imported."""
    return [name for name, module in _MODULES.items() if find_spec(module) is not None]


def has_cache_types() -> bool:
    """Whether this nextn can keep its cache in other types than float16."""
    from nextn.backends import create_executor

    return "cache_type" in inspect.signature(create_executor).parameters


def _ignore(_level: int, _text: bytes, _data: Any) -> None:
    """Drop a log line."""
