"""`python -m serving.check`: compares a model server's answers with TensorFlow's own.

Every signature of an export runs in this process and is requested over REST and gRPC from the server: this
project's, TF Serving itself or any other that speaks its interfaces.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving import command, security
from serving.clients.client import DEFAULT_MODEL, TIMEOUT_SECONDS, Client
from serving.clients.connect import connect, use_only_model
from serving.clients.pictures import expand_paths, read_pictures
from serving.command import UserError
from serving.specs import ModelSpec

if TYPE_CHECKING:
    from serving.checks.answers import Finding, Tolerance
    from serving.checks.cases import Export

EXIT_DIFFERENT = 1
MOST_PICTURES = 8


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and compares; returns 0 when all answers are equal, 1 when some differ."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.check", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--server", metavar="ADDRESS", help="REST: HOST:PORT or a URL")
    parser.add_argument("--grpc", metavar="ADDRESS", help="gRPC: HOST:PORT")
    parser.add_argument(
        "--export",
        required=True,
        type=command.path,
        metavar="E",
        help="an export folder (its newest version) or one version",
    )
    parser.add_argument("--model", metavar="NAME", help="default: the server's only one, where it tells")
    parser.add_argument(
        "images",
        type=command.path,
        nargs="*",
        metavar="IMAGE",
        help=f"pictures to ask about, {MOST_PICTURES} at most (default: drawn)",
    )
    parser.add_argument(
        "--rtol", type=float, default=1e-4, help="relative tolerance of numbers (default 1e-4)"
    )
    parser.add_argument("--atol", type=float, default=1e-5, help="absolute tolerance (default 1e-5)")
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_SECONDS, metavar="S", help="seconds a request (default 30)"
    )
    parser.add_argument("--ca-file", type=command.path, metavar="PEM", help="encrypt, with these authorities")
    parser.add_argument(
        "--cert-file",
        type=command.path,
        metavar="PEM",
        help="encrypt, with this client's certificate and key",
    )
    parser.add_argument("--api-token-file", type=command.path, metavar="FILE", help="holds the API token")
    command.add_json_flag(parser)
    args = parser.parse_args(argv)
    if args.server is None and args.grpc is None:
        parser.error("name --server or --grpc, or both")
    different: list[Finding] = []
    status = command.run(lambda: _check(args, different), as_json=args.json)
    return status or (EXIT_DIFFERENT if different else 0)


def _check(args: argparse.Namespace, different: list[Finding]) -> dict[str, Any]:
    command.quiet_tensorflow()
    from serving.checks.answers import Tolerance
    from serving.checks.cases import cases, draw_pictures, open_export

    export = open_export(Path(args.export))
    pictures = _pictures(args.images) or draw_pictures()
    clients = _clients(args)
    try:
        model = args.model or _only_model(clients)
        findings: list[Finding] = []
        prepared = list(cases(export, pictures))
        for client in clients:
            findings += _findings(
                client, ModelSpec(model, export.version), export, prepared, Tolerance(args.rtol, args.atol)
            )
    finally:
        for client in clients:
            client.close()
    different += [finding for finding in findings if finding.difference]
    _show(findings, f"{model}, version {export.version}: {len(findings)} compared, {len(different)} differ")
    rows = [{**finding._asdict(), "equal": not finding.difference} for finding in findings]
    return {"model": model, "version": export.version, "compared": rows, "different": len(different)}


def _findings(
    client: Client, spec: ModelSpec, export: Export, prepared: list[Any], tolerance: Tolerance
) -> list[Finding]:
    """Every comparison over one transport."""
    from serving.checks import answers as check_answers

    found = list(check_answers.description_findings(export, client, spec))
    for case in prepared:
        found += check_answers.signature_findings(case, client, spec, tolerance)
    return found + list(check_answers.error_findings(client, spec))


def _clients(args: argparse.Namespace) -> list[Client]:
    token = security.read_token(args.api_token_file)
    files = {"ca_file": args.ca_file, "cert_file": args.cert_file}
    more: dict[str, Any] = {"timeout": args.timeout, "token": token, **files}
    clients = []
    if args.server is not None:
        clients.append(connect(args.server, **more))
    if args.grpc is not None:
        clients.append(connect(args.grpc, grpc=True, **more))
    return clients


def _only_model(clients: list[Client]) -> str:
    """The name of the server's only model, which only REST lists."""
    use_only_model(clients[0])
    return clients[0].settings.model.name if clients else DEFAULT_MODEL


def _pictures(images: list[str]) -> list[bytes]:
    if len(images) > MOST_PICTURES:
        raise UserError(f"{MOST_PICTURES} pictures at most; received {len(images)}")
    found = []
    for picture in read_pictures(expand_paths(images)):
        if picture.error:
            raise UserError(f"{picture.name}: {picture.error}")
        found.append(picture.content)
    return found[:MOST_PICTURES]


def _show(findings: list[Finding], title: str) -> None:
    """Prints a table, with a row for each subject and a column for each transport, and the differences."""
    from serving.clients import console as client_report

    columns = list(dict.fromkeys(finding.over for finding in findings))
    table = client_report.table_with_columns("asked for", *columns)
    by_subject: dict[str, dict[str, str]] = {}
    for finding in findings:
        by_subject.setdefault(finding.subject, {})[finding.over] = (
            "DIFFERS" if finding.difference else "equal"
        )
    for subject, results in by_subject.items():
        table.add_row(client_report.as_text(subject), *(results.get(over, "-") for over in columns))
    client_report.show(table)
    for finding in findings:
        if finding.difference:
            client_report.show(
                client_report.as_text(f"{finding.subject}, {finding.over}: {finding.difference}")
            )
    print(title)


if __name__ == "__main__":
    sys.exit(main())
