"""What a program may have switched in torch for all that comes after, put back to how torch starts while probekit computes.

Under autocast products are taken in 16 bits, a default dtype decides what `torch.zeros` makes, a default device where: a
measurement would come out differently, or end in an error about a matrix product, by what the program around it does. What
the caller wants computed in 16 bits is said with `dtype=`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def as_torch_starts() -> Generator[None]:
    """No autocast, float32 where no dtype is named, the CPU where no device is named; afterwards all is as it was."""
    dtype = torch.get_default_dtype()
    with ExitStack() as undone:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                undone.enter_context(torch.autocast(kind, enabled=False))
        if dtype is not torch.float32:
            undone.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":  # naming a device costs a little at each call
            undone.enter_context(torch.device("cpu"))
        yield
