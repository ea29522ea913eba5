import pytest

from . import deviations, imports, names


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for file, cases in sorted(deviations.items()):
        worst = max(cases, key=cases.__getitem__)
        terminalreporter.write_line(
            f"golden {file}: {len(cases)} of {len(names(file))} cases compared, "
            f"largest relative deviation {cases[worst]:.1e} ({worst})"
        )
    for line in imports.lines():
        terminalreporter.write_line(line)
