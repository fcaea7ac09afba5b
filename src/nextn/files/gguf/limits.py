"""What a GGUF file may hold. A file beyond these limits is refused before memory is spent on it."""

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
LEAST_ALIGNMENT = 8  # the specification: a multiple of 8
MOST_ALIGNMENT = 1 << 20
MOST_METADATA_ENTRIES = 1 << 16
MOST_TENSORS = 1 << 20
MOST_PARTS = 99_999  # the names of split files have five digits
MOST_DIMENSIONS = 4
MOST_NAME_BYTES = 63
MOST_KEY_BYTES = 65_535
# A sparse file of gigabytes costs its author nothing, so the bytes that are there are no bound.
MOST_STRING_BYTES = 1 << 24  # the longest in use, chat templates and licences, are near 100 kB
MOST_ARRAY_ELEMENTS = 1 << 24  # the longest in use, the merges of large vocabularies, near 1 << 19
MOST_METADATA_BYTES = 1 << 28  # the largest in use are near 20 MB
MOST_ELEMENTS = (1 << 63) - 1
SMALLEST_METADATA_ENTRY = 8 + 4 + 1  # key length, value type, one byte of value
SMALLEST_TENSOR_ENTRY = 8 + 4 + 4 + 8  # name length, dimensions, type, offset
