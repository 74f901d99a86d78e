"""`python -m alexnet_tf.evaluate`: top-1 and top-5 error of a run, or of several averaged, with a report.

A folder of runs of several seeds stands for all of them. Beside an average stands what each run does alone.
Data given with --data are measured whole, unless they have a split of their own for it. The report is a
folder: summary.json, per_class.csv, predictions.csv, confusion.png and mistakes.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pipelines import command, progress
from pipelines.errors import UserError

CHECKPOINTS = ("best", "newest")


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and evaluates; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_tf.evaluate", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--workdir",
        type=command.path,
        nargs="+",
        required=True,
        metavar="W",
        help="run folders, or folders of several seeds; the predictions of several runs are averaged",
    )
    parser.add_argument(
        "--data",
        metavar="SPEC",
        help="another data set than the run's own; measured whole unless it is split",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="what is measured: train, val, test or all (default: of the run's own data val; of others their "
        "val, else their test, else all)",
    )
    parser.add_argument(
        "--crops",
        type=int,
        nargs="+",
        choices=(1, 9, 10),
        default=[1],
        help="1, the centre; 9, corners and sides, too; 10, centre, corners and mirrors; 1 9 or 1 10, both in"
        " one pass (default 1)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=64,
        metavar="N",
        help="crops a step (default %(default)s): memory and speed",
    )
    parser.add_argument(
        "--checkpoint", choices=CHECKPOINTS, default="best", help="which weights (default best)"
    )
    parser.add_argument(
        "--out",
        type=command.path,
        metavar="DIR",
        help="where reports go (default: W/evaluation, W/evaluation-ten-crop, W/evaluation-of-DATA, ...); "
        "two get a folder each",
    )
    command.add_strict_flag(parser)
    command.add_json_flag(parser)
    args = parser.parse_args(argv)
    return command.run(lambda: _evaluate(args), as_json=args.json)


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    if args.batch_size < 1:
        raise UserError(f"--batch-size must be 1 or more; received {args.batch_size}")
    if {9, 10} <= set(args.crops):
        raise UserError("--crops: 9 and 10 are other crops, and need a pass each; received both")

    from alexnet_tf import run_data, run_record
    from alexnet_tf.evaluation import folders
    from alexnet_tf.run_record import Run

    workdirs = run_record.expand(args.workdir)
    runs = [Run.open(workdir) for workdir in workdirs]

    # After the folders are known to be runs: TensorFlow takes seconds to import.
    with progress.phase("loading Keras"):
        from alexnet_tf.evaluation import measure

    first = Path(args.workdir[0])
    of = folders.Measured(
        ensemble=len(runs) > 1 or workdirs[0] != first,
        data=None if args.data is None or run_data.same_place(args.data, runs[0].data.spec) else args.data,
        split=args.split,
        checkpoint=args.checkpoint,
    )
    outs = {crops: folders.default(first, of, crops) for crops in sorted(set(args.crops))}
    if args.out:
        below = len(outs) > 1  # two reports do not fit into one folder
        outs = {crops: Path(args.out) / (own.name if below else "") for crops, own in outs.items()}
    summaries = measure.evaluate(
        runs,
        args.data,
        outs,
        batch_size=args.batch_size,
        checkpoint=args.checkpoint,
        split=args.split,
        strict=args.strict,
    )
    for summary in summaries.values():
        _show(summary)
    one, *others = summaries.values()
    return {"crops": summaries} if others else one


def _show(summary: dict[str, Any]) -> None:
    from alexnet_tf.evaluation.report import describe_error, describe_members, describe_protocol
    from pipelines import scan

    print(f"run          {', '.join(summary['workdirs'])}")
    print(f"data         {summary['description']}")
    measured = "whole" if summary["split"] == "all" else f"split {summary['split']}"
    print(f"measured     {measured}, {summary['classes']} classes")
    print(f"pictures     {scan.summary(summary['count'], {scan.BROKEN: summary['left_out']})}")
    print(f"protocol     {describe_protocol(summary)}")
    for line in describe_members(summary):
        print(line)
    for k in (1, 5):
        print(f"top-{k} error  {describe_error(summary, k)}")
    print(f"report       {summary['out']}")


if __name__ == "__main__":
    sys.exit(main())
