"""The model's vocabulary as llguidance needs it: the bytes of each token, and a way to encode."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from llguidance import LLTokenizer, TokenizerWrapper

from nextn.errors import UnsupportedModelError

if TYPE_CHECKING:
    from nextn.text.tokenizer import Tokenizer


class Vocabulary:
    """What `LLTokenizer` asks for; built once per model.

    Control tokens and end tokens are special: no text contains them, whatever their own text is.

    Args:
        tokenizer: of the model.
        size: width of its logits; ids beyond the tokenizer's are never allowed.

    Attributes:
        tokens: the bytes of each token, [size].
        end_tokens: ids that end a text, ascending; at least one.
        ll_tokenizer: what llguidance made of all this.
    """

    # Names that llguidance looks for.
    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.end_tokens = sorted(tokenizer.end_of_generation)
        if not self.end_tokens:
            raise UnsupportedModelError(
                "the model has no token that ends a text, so no text of it can be complete; leave "
                "out the grammar or schema"
            )
        known = min(tokenizer.vocab_size, size)
        self.tokens = [tokenizer.token_bytes(token) for token in range(known)]
        self.tokens += [b""] * (size - known)
        self.special_token_ids = sorted(tokenizer.special | tokenizer.end_of_generation)
        self.eos_token_id = self.end_tokens[0]
        self.bos_token_id = tokenizer.bos_id
        self._tokenizer = tokenizer
        self.ll_tokenizer = LLTokenizer(
            cast(TokenizerWrapper, self), n_vocab=size, eos_token=self.end_tokens
        )

    def __call__(self, text: str | bytes) -> list[int]:
        """Encode text that continues other text."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self._tokenizer.encode(text, add_special=False, continues=True)
