"""Reads some training batches of a data set, and says how much memory the process has had at most.

python -m benchmarks.input_limits_reader folder:DIR
"""

from __future__ import annotations

import itertools
import sys

from benchmarks.input import BATCH
from benchmarks.input_limits import peak_gibibytes
from pipelines import command
from pipelines.config import DataConfig

BATCHES = 200


def main(argv: list[str] | None = None) -> int:
    (spec,) = argv if argv is not None else sys.argv[1:]
    return command.run(lambda: _read(spec))


def _read(spec: str) -> dict[str, float]:
    from pipelines import dataset, sources

    config = DataConfig(spec, colour_statistics="published")
    source = sources.open_source(config)
    stream = dataset.build(source, config, "train", BATCH, training=True)
    for _ in itertools.islice(stream, BATCHES):
        pass
    print(peak_gibibytes())
    return {}


if __name__ == "__main__":
    sys.exit(main())
