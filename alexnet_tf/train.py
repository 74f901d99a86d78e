"""`python -m alexnet_tf.train`: trains a network into a run folder, or goes on with one."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf import cli, recipe

if TYPE_CHECKING:
    from alexnet_tf.run_record import Run
    from pipelines.config import DataConfig


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m alexnet_tf.train", description=__doc__)
    parser.add_argument(
        "--recipe", default="paper", metavar="NAME", help=f"one of {', '.join(recipe.RECIPES)}"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="SPEC",
        help="synthetic, folder:DIR, tfds:NAME, records:DIR or imagenet:DIR",
    )
    parser.add_argument(
        "--workdir", required=True, metavar="W", help="the run folder; an unfinished run goes on"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="changes a field of the recipe"
    )
    parser.add_argument("--devices", default="one", metavar="HOW", help="one (default) or mirrored")
    cli.add_json_flag(parser)
    args = parser.parse_args(argv)
    return cli.run(lambda: _train(args), as_json=args.json)


def _train(args: argparse.Namespace) -> dict[str, Any]:
    resolved = recipe.get(args.recipe).replace(recipe.parse_settings(args.set))
    config = resolved.data_config(args.data)

    # After the settings are known to be good: TensorFlow takes seconds to import.
    import tensorflow as tf

    from alexnet_tf import train_loop
    from alexnet_tf.errors import UserError
    from alexnet_tf.run_record import RECIPE_FILE, Run
    from pipelines import records

    if (Path(args.workdir) / RECIPE_FILE).exists():
        run = Run.open(args.workdir)
        run.check_same(resolved, args.data)
        run = dataclasses.replace(run, recipe=resolved)
    else:
        run = _start(args.workdir, resolved, config)
    try:
        return train_loop.train(run, run.open_source(), devices=args.devices)
    except tf.errors.OpError as error:
        raise UserError(records.describe(error, config)) from None


def _start(workdir: str, resolved: recipe.Recipe, config: DataConfig) -> Run:
    """Looks at every picture once and writes the run folder."""
    from alexnet_tf.progress import scan_progress
    from alexnet_tf.run_record import SKIPPED_FILE, Run
    from pipelines import scan, sources

    source = sources.open_source(config)
    print(source.description, flush=True)
    found = scan.scan(source, config, progress=scan_progress)
    Path(workdir).mkdir(parents=True, exist_ok=True)
    if found.skipped:
        path = Path(workdir) / SKIPPED_FILE
        scan.write_skipped(path, found.skipped)
        first = found.skipped[0]
        print(
            f"left out {len(found.skipped)} broken pictures, such as {first.key} ({first.reason}); see {path}"
        )
    return Run.create(workdir, resolved, config.spec, source.class_names, found.stats, source.readable_names)


if __name__ == "__main__":
    sys.exit(main())
