"""What a safetensors checkpoint may hold; more is refused before memory is spent on it."""

MOST_HEADER_BYTES = 1 << 25  # the largest in use are near 10 MB
MOST_TENSORS = 1 << 20
MOST_DIMENSIONS = 8
MOST_NAME_BYTES = 512
MOST_ELEMENTS = (1 << 63) - 1
MOST_SHARDS = 10_000
MOST_CONFIG_BYTES = 1 << 24
MOST_INDEX_BYTES = 1 << 26
MOST_TOKENIZER_BYTES = 1 << 27  # the largest in use are near 35 MB
MOST_TEMPLATE_BYTES = 1 << 24
