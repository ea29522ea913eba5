"""Everything about a GPU in one session of some ten minutes: `python -m benchmarks.gpu --help`."""
