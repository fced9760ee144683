"""The matrix architecture × (loads, sites verified, analysed), from one test run.

    python analyses/architectures.py                # some minutes; writes analyses/results/architectures.md

Runs tests/model/test_architectures.py, slow ones included, and sets down what each test recorded.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from tempfile import TemporaryDirectory

from probekit.analysis.run_fingerprint import versions
from probekit.storage import store

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "analyses" / "results" / "architectures.md"
HEAD = """# Architectures

Written by `python analyses/architectures.py` from one run of `tests/model/test_architectures.py`, {versions}: random
weights of the real classes, 2 layers, float32 on a CPU. *Sites*: in every layer the neurons follow from the MLP input by
the weights, the MLP output from the neurons, no later token is seen; and they equal those of the plain `transformers`
model to 1e-5 (the largest difference is given). *Analysed*: `analyze` with 4 twins, no excess over them.
Mixtures of experts are refused here and read by `pk.experts` (`tests/model/test_experts.py` proves thirteen).

| architecture | loads | sites | analysed |
|---|---|---|---|
"""


def main() -> None:
    """Run the tests and write the table."""
    with TemporaryDirectory() as folder:
        xml = Path(folder) / "outcome.xml"
        command = [
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={xml}",
        ]
        done = subprocess.run(
            [sys.executable, *command, "tests/model/test_architectures.py"], cwd=ROOT, check=False
        )
        cases = list(ET.parse(xml).getroot().iter("testcase"))
    lines: list[str] = []
    for case in cases:
        name = str(case.get("name")).partition("[")[2].rstrip("]")
        held = {str(p.get("name")): str(p.get("value")) for p in case.iter("property")}
        if case.find("failure") is not None or case.find("error") is not None:
            held |= {key: "**failed**" for key in ("loads", "sites", "analysed") if key not in held}
        if "refused" in held:
            lines.append(f"| {name} | refused: {held['refused']} | – | – |")
        else:
            lines.append(f"| {name} | {held.get('loads')} | {held.get('sites')} | {held.get('analysed')} |")
    used = ", ".join(
        f"{k} {v}" for k, v in versions().items() if k in ("transformer-lens", "transformers", "torch")
    )
    store.write_text(RESULT, HEAD.format(versions=used) + "\n".join(lines) + "\n")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
