"""`python -m serving.client`: sends pictures to any server that speaks TF Serving's interfaces.

In Python, `connect` returns the client itself: predict, classify, regress, status, metadata.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from serving import command, security
from serving.clients import addresses
from serving.clients.client import DEFAULT_MODEL, TIMEOUT_SECONDS, Client, Metadata, Prediction, Signature
from serving.clients.connect import connect, use_only_model
from serving.clients.pictures import (
    STDIN,
    PictureResult,
    SendOptions,
    expand_paths,
    predict_pictures,
    read_pictures,
    write_overlays,
)
from serving.clients.retry import RetryPolicy
from serving.command import EXIT_USER_ERROR, UserError
from serving.errors import Code, ServingError

__all__ = ["Client", "Code", "Metadata", "Prediction", "ServingError", "connect", "main"]


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and sends the requests; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    asked = bool(args.images) + args.status + args.metadata
    if asked != 1:
        parser.error("name pictures, or ask for --status or --metadata, one of them")
    if args.overlay is not None and not args.images:
        parser.error("--overlay needs pictures")
    failed: list[dict[str, str]] = []
    status = command.run(lambda: _run(args, failed), as_json=args.json)
    return status or (EXIT_USER_ERROR if failed else 0)


def make_parser() -> argparse.ArgumentParser:
    """The command's argument parser."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.client", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "images",
        type=command.path,
        nargs="*",
        metavar="IMAGE",
        help=f"files, folders of pictures, or {STDIN} for standard input",
    )
    ports = f"localhost:{addresses.REST_PORT}, with --grpc localhost:{addresses.GRPC_PORT}"
    parser.add_argument("--server", metavar="ADDRESS", help=f"HOST:PORT or a URL (default {ports})")
    parser.add_argument("--grpc", action="store_true", help="speak gRPC instead of REST")
    model = parser.add_argument_group("the model")
    model.add_argument("--model", metavar="NAME", help="default: the server's only one, where it tells")
    model.add_argument(
        "--version", type=int, metavar="N", help="this version (default: the latest available)"
    )
    model.add_argument("--label", metavar="L", help="the version with this label")
    model.add_argument("--signature", default="", metavar="S", help="default serving_default")
    how = parser.add_argument_group("how it is asked")
    how.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="pictures a request (default 16)"
    )
    how.add_argument("--concurrency", type=int, default=2, metavar="N", help="requests at a time (default 2)")
    how.add_argument(
        "--timeout", type=float, default=TIMEOUT_SECONDS, metavar="S", help="seconds a request (default 30)"
    )
    how.add_argument("--deadline", type=float, metavar="S", help="seconds for everything (default: no limit)")
    how.add_argument(
        "--retries",
        type=int,
        default=RetryPolicy().retries,
        metavar="N",
        help="further tries when the server is full or not reached (default %(default)s)",
    )
    _add_access(parser)
    shown = parser.add_argument_group("what comes back")
    shown.add_argument("--status", action="store_true", help="the model's versions and their states")
    shown.add_argument("--metadata", action="store_true", help="the model's signatures")
    shown.add_argument(
        "--overlay",
        type=command.path,
        metavar="PATH",
        help="write the saliency overlay: a .png for one picture, else a folder",
    )
    command.add_json_flag(parser)
    return parser


def _add_access(parser: argparse.ArgumentParser) -> None:
    safe = parser.add_argument_group("TLS and access")
    safe.add_argument("--tls", action="store_true", help="encrypt; so do https:// and the files below")
    safe.add_argument(
        "--ca-file", type=command.path, metavar="PEM", help="authorities of the server's certificate"
    )
    safe.add_argument("--cert-file", type=command.path, metavar="PEM", help="the client's certificate")
    safe.add_argument(
        "--key-file", type=command.path, metavar="PEM", help="its key, where --cert-file lacks it"
    )
    safe.add_argument(
        "--api-token-file",
        type=command.path,
        metavar="FILE",
        help=f"holds the API token (default: ${security.TOKEN_VARIABLE})",
    )


def _run(args: argparse.Namespace, failed: list[dict[str, str]]) -> dict[str, Any]:
    began = time.monotonic()
    for name in ("batch_size", "concurrency", "deadline"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name.replace('_', '-')} must be positive; received {value}")
    deadline = float("inf") if args.deadline is None else began + args.deadline
    names = expand_paths(args.images)
    if args.grpc:
        command.quiet_tensorflow()
    where = args.server or f"localhost:{addresses.GRPC_PORT if args.grpc else addresses.REST_PORT}"
    client = connect(
        where,
        grpc=args.grpc,
        model=args.model or DEFAULT_MODEL,
        version=args.version,
        label=args.label,
        timeout=args.timeout if args.deadline is None else min(args.timeout, args.deadline),
        retries=args.retries,
        token=security.read_token(args.api_token_file),
        tls=args.tls,
        ca_file=args.ca_file,
        cert_file=args.cert_file,
        key_file=args.key_file,
    )
    with client:
        try:
            if args.model is None:
                use_only_model(client)
            return {"server": where, **_ask(client, args, names, deadline, failed)}
        except ServingError as error:
            raise ServingError(error.code, error.message + _advice(error.code, args)) from error


def _ask(
    client: Client, args: argparse.Namespace, names: list[str], deadline: float, failed: list[dict[str, str]]
) -> dict[str, Any]:
    from serving.clients import console as client_report

    model = client.settings.model.name
    if args.status:
        versions = client.status()
        client_report.show_status(versions)
        rows = [{**v._asdict(), "state": v.state.name, "code": v.code.name} for v in versions]
        return {"model": model, "versions": rows}
    if args.metadata:
        metadata = client.metadata()
        client_report.show_metadata(metadata)
        signatures = {name: _signature_figures(one) for name, one in metadata.signatures.items()}
        return {"model": metadata.model, "version": metadata.version, "signatures": signatures}
    pictures = list(read_pictures(names)) if STDIN in names else None  # which can be read only once
    options = SendOptions(args.signature, args.batch_size, args.concurrency, deadline)
    answers, began = [], time.monotonic()
    for answered in predict_pictures(client, pictures or read_pictures(names), options):
        if _failed(answered, failed):
            continue
        client_report.show_result(answered)
        answers.append(
            {"file": command.printable(answered.name), **client_report.plain_outputs(answered.outputs)}
        )
    seconds = time.monotonic() - began
    figures = {"model": model, "pictures": answers, "failed": failed, "seconds": seconds}
    if args.overlay is not None:
        broken = {one["file"] for one in failed}
        left = [p for p in pictures or read_pictures(names) if command.printable(p.name) not in broken]
        written = []
        for answered, path in write_overlays(client, left, Path(args.overlay), options):
            if not _failed(answered, failed):
                written.append(path)
                print(f"written: {command.printable(path)}")
        figures["overlays"] = written
    return figures


def _failed(answered: PictureResult, failed: list[dict[str, str]]) -> bool:
    """Whether a picture has no answer; prints its error, and the others go on."""
    if answered.error:
        name = command.printable(answered.name)
        failed.append({"file": name, "error": answered.error})
        command.print_error(f"{name}: {answered.error}")
    return bool(answered.error)


def _signature_figures(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {name: info._asdict() for name, info in signature.inputs.items()},
        "outputs": {name: info._asdict() for name, info in signature.outputs.items()},
        "method_name": signature.method_name,
    }


def _advice(code: Code, args: argparse.Namespace) -> str:
    """A hint to add to an error that an option of the command would prevent."""
    if code == Code.UNAUTHENTICATED:
        return " (give the API token with --api-token-file)"
    return " (name the model with --model)" if code == Code.NOT_FOUND and args.model is None else ""


if __name__ == "__main__":
    sys.exit(main())
