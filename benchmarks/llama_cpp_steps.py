"""Single steps of llama.cpp through `llama-cpp-python`, row by row like nextn's own."""

from __future__ import annotations

import ctypes

import llama_cpp
import numpy as np


class LlamaCppSteps:
    """One sequence in a llama.cpp context; a step decodes rows at given positions."""

    def __init__(self, path: str, *, threads: int, context: int) -> None:
        llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
        model_parameters = llama_cpp.llama_model_default_params()
        model_parameters.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), model_parameters)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._batch = llama_cpp.llama_batch_init(512, 0, 1)

    def step(
        self, tokens: list[int], position: int, *, all_logits: bool = True, read: bool = True
    ) -> np.ndarray | None:
        """Decode `tokens` from `position` on; later positions are forgotten first."""
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_seq_rm(memory, 0, position, -1)
        batch, count = self._batch, len(tokens)
        batch.n_tokens = count
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = all_logits or i == count - 1
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        if not read:
            return None
        wanted = count if all_logits else 1
        pointer = llama_cpp.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(wanted, self.vocab_size))


@llama_cpp.llama_log_callback
def _SILENT(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:  # noqa: N802
    """Drop llama.cpp's log lines."""
