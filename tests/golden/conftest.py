from typing import Any

import pytest

from . import deviations, imports, names


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands over what it has seen."""
    if hasattr(session.config, "workeroutput"):
        table = {kind: (sorted(found.configurations), found.outputs) for kind, found in imports.table.items()}
        session.config.workeroutput |= {"golden": dict(deviations), "imports": table}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The process that started the others puts it together."""
    told = getattr(node, "workeroutput", {})
    for file, cases in told.get("golden", {}).items():
        deviations[file] |= cases
    for kind, (configurations, outputs) in told.get("imports", {}).items():
        imports.table[kind].configurations |= set(configurations)
        imports.table[kind].outputs |= outputs


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for file, cases in sorted(deviations.items()):
        worst = max(cases, key=cases.__getitem__)
        terminalreporter.write_line(
            f"golden {file}: {len(cases)} of {len(names(file))} cases compared, "
            f"largest relative deviation {cases[worst]:.1e} ({worst})"
        )
    for line in imports.lines():
        terminalreporter.write_line(line)
