"""Finding the prediction head of a model: inside its file, beside it, or shipped with nextn.

The heads that nextn ships are the GGUF files of this folder. Each names its trunk and the hash of
its vocabulary, so that it is found for every quantisation of that model, whatever the file is
called.
"""

from nextn.heads.find import AUTOMATIC, FoundHead, HeadOrigin, HeadSearch, find_head

__all__ = ["AUTOMATIC", "FoundHead", "HeadOrigin", "HeadSearch", "find_head"]
