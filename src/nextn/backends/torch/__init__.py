"""Plans in PyTorch: differentiable, over whole sequences; what heads are trained with.

It needs PyTorch, which a plain install does not have: `require_torch` says so in time.
"""

from __future__ import annotations

from importlib.util import find_spec

from nextn.errors import RequestError

__all__ = ["require_torch"]


def require_torch(purpose: str) -> None:
    """Check that PyTorch is installed.

    Args:
        purpose: what it is needed for; begins the message.

    Raises:
        RequestError: it is not, and how to install it.
    """
    if find_spec("torch") is None:
        raise RequestError(
            f"{purpose} needs PyTorch; install it with pip install 'nextn[train]', or, for the "
            "smaller build without GPU, pip install torch --index-url "
            "https://download.pytorch.org/whl/cpu"
        )
