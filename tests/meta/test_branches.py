"""The gate of `make coverage` opens at 95 % of every room's branches and not below."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("branches", Path(__file__).parent / "branches.py")
assert SPEC is not None
assert SPEC.loader is not None
branches = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(branches)


def test_one_room_below_closes_it(tmp_path: Path) -> None:
    def report(taken: int, rooms: tuple[str, ...] = branches.ROOMS) -> Path:
        files = {
            f"probekit/{room}/a.py": {"summary": {"covered_branches": 20, "num_branches": 20}}
            for room in rooms
        }
        files[f"probekit/{rooms[-1]}/b.py"] = {"summary": {"covered_branches": taken, "num_branches": 20}}
        path = tmp_path / "report.json"
        path.write_text(json.dumps({"files": files}))
        return path

    assert branches.main(report(18)) == 0  # 38 of 40
    assert branches.main(report(17)) == 1
    assert branches.main(report(20, branches.ROOMS[:2])) == 1, "a room that was not measured"
