"""A GGUF file: what it states, which tensors it holds, and how many bits their weights have.

Bits come from the sizes of the block formats in the `gguf` package. What model the file describes is a matter of
`gguf_config`, `gguf_tokenizer` and `gguf_model`.
Source: the GGUF specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
Axes: none.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from probekit.errors import ConfigError, ModelError

MAGIC = b"GGUF"
"""What such a file begins with, whatever it is called."""
NO_GGUF = (
    "reading a GGUF file needs the package gguf, which is not installed here: pip install 'gguf>=0.17' "
    "(from a clone: pip install -e '.[gguf]')."
)
_LINK = "model.gguf"
_AT_THE_NEURONS = r"blk\.{}\.ffn_(up|gate)\.(weight|bias)"


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF file does."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def package() -> Any:
    """The `gguf` package, which is an optional extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise ConfigError(NO_GGUF) from error


@cache
def bits_of_types() -> dict[str, float]:
    """Bits a weight takes in each ggml type, scales and minima of its block included: Q4_1 is 4 + 32/32 = 5."""
    return {kind.name: 8 * n_bytes / n for kind, (n, n_bytes) in package().GGML_QUANT_SIZES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """One entry of the table of tensors."""

    kind: str
    """The ggml type it is stored in."""
    shape: tuple[int, ...]
    """As torch orders axes."""
    n_weights: int
    """Weights it holds."""


class GgufFile:
    """What a GGUF file states; tensors stay where they are.

    Args:
        path: the file.

    Raises:
        ConfigError: the `gguf` package is not installed.
        ModelError: it is no GGUF file, is damaged, or holds a part of a model only.
    """

    def __init__(self, path: Path) -> None:
        if not is_gguf(path):
            raise ModelError(f"{path}: not a GGUF file, or none that can be read; download it again.")
        self.path = path
        library = package()
        try:
            self._reader: Any = library.GGUFReader(path)
            self.tensors = {
                str(tensor.name): StoredTensor(
                    tensor.tensor_type.name, tuple(int(n) for n in reversed(tensor.shape)), int(tensor.n_elements)
                )
                for tensor in self._reader.tensors
            }  # fmt: skip
        except (ValueError, KeyError, IndexError, OverflowError, TypeError, OSError) as error:
            raise ModelError(
                f"{path}: the file is damaged or incomplete ({type(error).__name__}: {error}); download it again."
            ) from error
        n_files = self.get("split.count", 1)
        if n_files > 1:
            raise ModelError(
                f"{path}: one of {n_files} files that one model was split into; wanted a whole model. "
                "Put them together with llama-gguf-split --merge."
            )
        if self.get("general.type", "model") != "model":
            raise ModelError(
                f"{path}: holds a {self.get('general.type')!r}, wanted a model. For an adapter, merge it into its "
                "model first."
            )

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key of the file."""
        field = self._reader.get_field(key)
        return default if field is None else field.contents()

    @cached_property
    def keys(self) -> frozenset[str]:
        """Every key of the file."""
        return frozenset(self._reader.fields)

    @cached_property
    def architecture(self) -> str:
        """What the file calls its architecture."""
        return str(self.get("general.architecture", "(none)"))

    def numbers(self, name: str) -> list[float]:
        """The values of a small float tensor.

        Raises:
            ModelError: it is stored in blocks.
        """
        tensor = next(tensor for tensor in self._reader.tensors if tensor.name == name)
        return [float(x) for x in package().dequantize(tensor.data, tensor.tensor_type).ravel()]

    def bits(self, layer: int) -> float:
        """Bits of a weight of those that act at one layer's neurons; a mean where they are stored in several types."""
        wanted = re.compile(_AT_THE_NEURONS.format(layer))
        return self._mean_bits([name for name in self.tensors if wanted.fullmatch(name)])

    @cached_property
    def mean_bits(self) -> float:
        """Bits of a weight, over the whole file."""
        return self._mean_bits(list(self.tensors))

    def _mean_bits(self, names: Sequence[str]) -> float:
        table = bits_of_types()
        held = [self.tensors[name] for name in names]
        n_weights = sum(tensor.n_weights for tensor in held)
        return sum(table[tensor.kind] * tensor.n_weights for tensor in held) / max(n_weights, 1)

    def kinds(self, layers: Sequence[int]) -> str:
        """In words how the matrices that act at the neurons of some layers are stored."""
        n: Counter[str] = Counter()
        for layer in layers:
            wanted = re.compile(_AT_THE_NEURONS.format(layer))
            for name, tensor in self.tensors.items():
                if wanted.fullmatch(name) and len(tensor.shape) > 1:
                    n[tensor.kind] += 1
        return ", ".join(kind for kind, _ in n.most_common())


@contextmanager
def folder_of(path: Path) -> Generator[tuple[Path, str]]:
    """A folder that holds nothing but this file, and its name there: libraries look at what lies beside a file too."""
    with TemporaryDirectory(prefix="probekit-") as name:
        (Path(name) / _LINK).symlink_to(path.resolve())
        yield Path(name), _LINK
