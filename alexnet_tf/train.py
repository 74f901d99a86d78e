"""`python -m alexnet_tf.train`: trains a network into a run folder, or goes on with one."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf import recipe
from pipelines import command, progress
from pipelines.errors import DataError, UserError

if TYPE_CHECKING:
    from alexnet_tf.distribute.cluster import Cluster
    from alexnet_tf.distribute.peers import Peers

PEER_TIMEOUT = 60.0  # seconds


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and trains; returns the exit status."""
    args = make_parser().parse_args(argv)
    # Days of work, whose record is the run folder, do not end because a pager or a `tee` has.
    return command.run(lambda: _train(args), as_json=args.json, tensorflow=False, outlives_reader=True)


def make_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_tf.train",
        description=__doc__,
        epilog=f"fields of --set, with the paper's values:\n{recipe.fields_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--recipe", default="paper", metavar="NAME", help=f"one of {', '.join(recipe.RECIPES)}"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="SPEC",
        help="synthetic, folder:DIR, tfds:NAME, records:DIR, imagenet:DIR or cifar:DIR",
    )
    parser.add_argument(
        "--workdir",
        type=command.path,
        required=True,
        metavar="W",
        help="the run folder; an unfinished run goes on",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="changes a field of the recipe (below)",
    )
    parser.add_argument(
        "--devices",
        default="one",
        metavar="HOW",
        help="one (default), mirrored or mirrored:N, multi-worker, towers",
    )
    parser.add_argument(
        "--seeds", metavar="N", help="N runs W/seed-0, W/seed-1, ... one after another; or a list such as 3,7"
    )
    parser.add_argument(
        "--data-service",
        metavar="HOST:PORT,...",
        help="has pictures decoded by processes of pipelines.data_service",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="equal bits on every repetition, at some cost in speed"
    )
    parser.add_argument(
        "--peer-timeout",
        type=float,
        default=PEER_TIMEOUT,
        metavar="SECONDS",
        help="how long a worker waits for the others at the start (default %(default)g)",
    )
    command.add_strict_flag(parser)
    command.add_json_flag(parser)
    return parser


def _train(args: argparse.Namespace) -> dict[str, Any]:
    from alexnet_tf import run_record
    from pipelines import service_client

    resolved = recipe.get(args.recipe).replace(recipe.parse_settings(args.set))
    config = resolved.data_config(args.data)
    runs = {Path(args.workdir): resolved}
    if args.seeds is not None:
        seeds = run_record.parse_seeds(args.seeds, first=resolved.seed)
        runs = {run_record.folder(args.workdir, s): dataclasses.replace(resolved, seed=s) for s in seeds}
    service = () if args.data_service is None else service_client.parse_addresses(args.data_service)
    if not 0 < args.peer_timeout < math.inf:
        raise UserError(f"--peer-timeout must be a positive number of seconds; received {args.peer_timeout}")
    try:
        if args.devices == "multi-worker":
            return _train_together(args, runs, service)
        return _train_all(args, runs, service)
    except (UserError, DataError, OSError):
        raise
    except Exception as error:
        import tensorflow as tf

        from pipelines.sources import records

        if not isinstance(error, tf.errors.OpError):
            raise
        raise UserError(records.describe(error, config)) from None


def _train_together(
    args: argparse.Namespace, runs: dict[Path, recipe.Recipe], service: Sequence[str]
) -> dict[str, Any]:
    """Trains as one of several workers, once all of them are connected."""
    from alexnet_tf.distribute import cluster, peers

    found = cluster.from_environment()
    settings = {
        **dataclasses.asdict(next(iter(runs.values()))),
        "--data": args.data,
        "--workdir": args.workdir,
        "--seeds": args.seeds,
        "--deterministic": args.deterministic,
    }
    with contextlib.ExitStack() as meeting:
        with progress.phase("waiting for the other workers"):
            together = meeting.enter_context(peers.rendezvous(found, settings, timeout=args.peer_timeout))
        if not found.is_chief:
            progress.mute()  # the chief reports
        return _train_all(args, runs, service, found, together)


def _train_all(
    args: argparse.Namespace,
    runs: dict[Path, recipe.Recipe],
    service: Sequence[str],
    found: Cluster | None = None,
    together: Peers | None = None,
) -> dict[str, Any]:
    """Trains each of the runs; several processes train every one of them together."""
    # When a worker is lost, TensorFlow's own errors would bury the line that names it.
    command.quiet_tensorflow(errors=found is None, told=True)
    with progress.phase("loading Keras"):
        import tensorflow as tf

        from alexnet_tf import run_record
        from alexnet_tf.training import loop as train_loop
        from alexnet_tf.training import placement, precision, run_folder

    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    with contextlib.ExitStack() as starting:
        if together:
            starting.enter_context(progress.phase("connecting the workers", at_once=True))
            starting.enter_context(together.starting())
        place = placement.place(args.devices, cluster=found)
    if together:
        place = dataclasses.replace(place, unbroken=together.unbroken)
    if args.seeds is not None and place.is_chief:
        run_record.prepare(args.workdir, [wanted.seed for wanted in runs.values()])
    with progress.phase("timing float32 and bfloat16"):
        settled = precision.settle(next(iter(runs.values())).precision, list(runs), place)
    if settled.line and place.is_chief:
        print(settled.line, flush=True)
    figures = []
    for workdir, wanted in runs.items():
        wanted = dataclasses.replace(wanted, precision=settled.name)
        if len(runs) > 1 and place.is_chief:
            print(f"{workdir}:", flush=True)
        with run_folder.opened(
            workdir, wanted, args.data, place, settled.environment(), strict=args.strict
        ) as run:
            figures.append(train_loop.train(run, run.open_source(training=True), place, service=service))
    return figures[0] if args.seeds is None else {"workdir": args.workdir, "runs": figures}


if __name__ == "__main__":
    sys.exit(main())
