"""How long `--help` of every command takes: the median over fresh interpreters.

    python -m benchmarks.help_time --repeats 5

The limit is half a second. The same is timed for an interpreter that imports TensorFlow and nothing
else, which is what a command would cost at least if it imported TensorFlow before reading its options.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipelines import command

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 0.5
PEER = "(import tensorflow)"


def commands() -> list[str]:
    """The modules that are run as `python -m`: those that define `main`, and packages with a `__main__`."""
    found = []
    for package in ("alexnet_tf", "pipelines", "serving"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            body = ast.parse(path.read_text(encoding="utf-8")).body
            if parts[-1] == "__main__":
                found.append(".".join(parts[:-1]))
            elif any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body):
                found.append(".".join(parts))
    return found


def seconds(words: list[str], repeats: int) -> float:
    """Median wall time of `python WORDS`, after one run that fills the disk cache."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure(repeats: int) -> dict[str, Any]:
    """Times every command and prints a line each; returns the medians in seconds by command."""
    medians = {}
    for module in commands():
        medians[module] = seconds(["-m", module, "--help"], repeats)
        mark = "" if medians[module] < LIMIT_SECONDS else f"  over the limit of {LIMIT_SECONDS} s"
        print(f"{module:28} {medians[module]:.3f} s{mark}", flush=True)
    peer = seconds(["-c", "import tensorflow"], max(1, repeats // 2))
    print(f"{PEER:28} {peer:.3f} s")
    return {
        "seconds": medians,
        "slowest": max(medians.values()),
        "tensorflow_import_over_slowest": peer / max(medians.values()),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.help_time", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each command (default %(default)s)")
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if arguments.repeats < 1:
        parser.error(f"--repeats must be 1 or more; received {arguments.repeats}")
    figures = measure(arguments.repeats)
    if arguments.json:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
