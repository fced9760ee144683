"""Encoders against those of the libraries that wrote the files, where these can be run.

They pin other versions of TransformerLens, so they live in an environment of their own: PROBEKIT_SAE_LENS,
PROBEKIT_DICTIONARY_LEARNING and PROBEKIT_CIRCUIT_TRACER name its interpreter (`python -m venv V; V/bin/pip install
sae-lens`), else this one is asked. `analyses/dictionary_equality.py` makes these environments and writes down what it finds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from probekit.model.dictionaries import read_dictionary

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def made_by(library: str, script: str, root: Path) -> list[Path]:
    """Folders of the cases that a library wrote."""
    python = os.environ.get(f"PROBEKIT_{library.upper()}", sys.executable)
    if subprocess.run([python, "-c", f"import {library}"], capture_output=True, check=False).returncode:
        pytest.skip(
            f"{library} cannot be imported by {Path(python).name}; name its interpreter in PROBEKIT_{library.upper()}"
        )
    subprocess.run([python, str(HERE / script), str(root)], check=True, capture_output=True, timeout=300)
    return sorted(path.parent for path in root.glob("*/reference.safetensors"))


@pytest.mark.parametrize(
    ("library", "script", "n_cases"),
    [
        ("sae_lens", "reference_saelens.py", 67),
        ("dictionary_learning", "reference_dictionary_learning.py", 6),
        ("circuit_tracer", "reference_circuit_tracer.py", 4),
    ],
)
def test_encoders_are_those_of_the_library(library: str, script: str, n_cases: int, tmp_path: Path) -> None:
    folders = made_by(library, script, tmp_path)
    assert len(folders) == n_cases
    for folder in folders:
        case = load_file(folder / "reference.safetensors")
        encoders = sorted(folder.glob("W_enc_*.safetensors"))
        got = read_dictionary(encoders[-1] if encoders else folder).encode(case["x"])
        active = case["acts"] != 0
        assert 0.01 < active.float().mean() < 0.9, folder.name  # neither dead nor always on
        assert torch.equal(got != 0, active), folder.name
        # float32 sums in the same order; a gated encoder multiplies by its gain after the sum, not before
        scale = max(1.0, float(case["acts"].abs().max()))
        assert float((got - case["acts"]).abs().max()) <= 1e-6 * scale, folder.name
