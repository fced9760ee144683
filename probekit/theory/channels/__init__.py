"""The channel decoder: from a layer's weights and directions of concepts to a Boolean program, with p-values."""

from __future__ import annotations

from probekit.theory.channels.decode import Channels, channels
from probekit.theory.channels.program import Clause, Program

__all__ = ["Channels", "Clause", "Program", "channels"]
