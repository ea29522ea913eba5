"""Items that crash, hang or are cut off cost themselves alone; findings outlive them."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from pathlib import Path

import psutil

from benchmarks.gpu.findings import Findings, read_findings
from benchmarks.gpu.supervise import Ended, supervise


def run(name: str, program: str, out: Path, *, budget_seconds: float = 60.0) -> Ended:
    """An item that is a few lines of Python, started as one; `out` is its findings file."""
    path = out / f"{name}.jsonl"
    text = f"import os, subprocess, sys, time\nout = {str(path)!r}\n" + textwrap.dedent(program)
    return supervise(name, [sys.executable, "-c", text], out=out, budget_seconds=budget_seconds, grace_seconds=0.0)


WRITES = """open(out, "a").write('{"a": 1}\\n')\n"""


def test_a_crash_leaves_the_other_items_and_its_own_lines(tmp_path: Path) -> None:
    before = run("before", WRITES, tmp_path)
    crash = run("crash", WRITES + "os.abort()", tmp_path)
    after = run("after", WRITES, tmp_path)
    assert [one.state for one in (before, crash, after)] == ["ok", "crashed", "ok"]
    assert crash.status < 0
    for name in ("before", "crash", "after"):
        assert read_findings(tmp_path, item=name) == [{"a": 1}]


def test_an_item_over_budget_is_killed_with_what_it_started(tmp_path: Path) -> None:
    program = """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        with open(out, "a") as file:
            file.write('{"child": %d}\\n' % child.pid)
            file.write('{"cut": ')
        time.sleep(600)
    """
    began = time.monotonic()
    ended = run("hangs", program, tmp_path, budget_seconds=2.0)
    assert ended.state == "over budget"
    assert time.monotonic() - began < 60
    (finding,) = read_findings(tmp_path, item="hangs")  # without the line that was cut off
    child = finding["child"]
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_states(tmp_path: Path) -> None:
    assert run("silent", "", tmp_path).state == "crashed"  # an item without a finding has answered nothing
    assert run("raises", WRITES + "sys.exit(1)", tmp_path).state == "crashed"
    failed = """open(out, "a").write('{"a": 1}\\n{"failed": "why"}\\n{"ok": false}\\n{"ok": true}\\n')\n"""
    ended = run("fails", failed, tmp_path)
    assert (ended.state, ended.findings, ended.failures) == ("failed", 4, 2)
    assert run("skips", """open(out, "a").write('{"skipped": "why"}\\n')\n""", tmp_path).state == "skipped"


def test_findings_of_an_earlier_run_are_gone(tmp_path: Path) -> None:
    run("item", WRITES, tmp_path)
    assert run("item", "os.abort()", tmp_path).findings == 0


def test_a_finding_is_in_the_file_at_once(tmp_path: Path) -> None:
    findings = Findings(tmp_path, item="a")
    findings.add(value=1.5, ok=True)
    findings.add(ok=False)
    first, second = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert (first["item"], first["value"], findings.failures) == ("a", 1.5, 1)
    assert second["ok"] is False
