"""The tiny SAGAN under an audit hook that writes down every class looked up by an unpickler."""

import sys
from pathlib import Path

found: list[str] = []
sys.addaudithook(lambda event, arguments: found.append(str(arguments)) if event == "pickle.find_class" else None)

from framework import launch  # noqa: E402
from tests.recipes.tiny_sagan import RECIPE  # noqa: E402

if __name__ == "__main__":
    found.clear()  # imports of libraries are theirs; training and resuming are ours
    launch(RECIPE)
    Path(sys.argv[sys.argv.index("--out") + 1], "unpickled.txt").write_text("\n".join(found))
