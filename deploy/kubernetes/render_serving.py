"""serving.yaml for another name, model, image, number of pods or an object store. Needs only Python."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
# The file, and the name that everything in it bears.
THEIRS = ("serving.yaml", "alexnet-serving")
OWN = ("serving-own.yaml", "alexnet-server")
MODEL = "alexnet"
LONGEST_LABEL = 63  # characters of a name in the DNS
SHARED_VOLUME = r"\n[^\n]*# without an object store(?=\n)"


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and prints the file; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--own", action="store_true", help="this project's server instead of TensorFlow Serving"
    )
    parser.add_argument("--name", help=f"of everything (default {THEIRS[1]}, with --own {OWN[1]})")
    parser.add_argument(
        "--model", default=MODEL, help="in the address and below /models (default %(default)s)"
    )
    parser.add_argument("--image", help="where the cluster finds the image")
    parser.add_argument(
        "--pods", type=int, nargs=2, metavar=("MIN", "MAX"), help="between which it is scaled"
    )
    parser.add_argument(
        "--store", metavar="URI", help="gs://BUCKET/FOLDER with the version folders, no volume"
    )
    parser.add_argument(
        "--account", metavar="NAME", help="service account that may read there (with --store)"
    )
    args = parser.parse_args(argv)
    try:
        print(
            render(args.own, args.name, args.model, args.image, args.pods, args.store, args.account), end=""
        )
    except ValueError as error:
        parser.error(str(error))
    return 0


def render(
    own: bool = False,
    name: str | None = None,
    model: str = MODEL,
    image: str | None = None,
    pods: list[int] | None = None,
    store: str | None = None,
    account: str | None = None,
) -> str:
    """Changes what the file marks with EDIT.

    Args:
      own: this project's server.
      name: of all objects; None keeps the file's.
      model: its name, and its folder in the shared volume.
      image: None keeps the one of the file.
      pods: fewest and most.
      store: folder of an object store that holds the version folders; None for the shared volume.
      account: service account of the pods, which then may read the store.

    Raises:
      ValueError: when a value does not fit.
    """
    file, given = OWN if own else THEIRS
    _check(name or given, model, pods, store, account)
    text = (FOLDER / file).read_text(encoding="utf-8")
    text = text.replace(f'name: "{MODEL}"', f'name: "{model}"').replace(
        f"/v1/models/{MODEL}", f"/v1/models/{model}"
    )
    text = text.replace(f'"/models/{MODEL}"', json.dumps(store or f"/models/{model}"))
    if store is not None:
        text = re.sub(SHARED_VOLUME, "", text)
    if account is not None:
        shown = f"      serviceAccountName: {account}\n      automountServiceAccountToken: true\n"
        text = re.sub(r" +automountServiceAccountToken: false[^\n]*\n", shown, text)
    if image is not None:
        text = re.sub(r"image: \S+", lambda _: f"image: {json.dumps(image)}", text)
    for word, count in zip(("min", "max"), pods or [], strict=False):
        text = re.sub(rf"{word}Replicas: \d+", f"{word}Replicas: {count}", text)
    return text.replace(given, name or given)


def _check(name: str, model: str, pods: list[int] | None, store: str | None, account: str | None) -> None:
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(name) > LONGEST_LABEL:
        raise ValueError(
            f"--name must be small letters, digits and dashes, {LONGEST_LABEL} characters at most; "
            f"received {name!r}"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", model):
        raise ValueError(f"--model must be letters, digits, dots, dashes and underscores; received {model!r}")
    if pods is not None and not 1 <= pods[0] <= pods[1]:
        raise ValueError(f"--pods must be 1 or more, the fewest first; received {pods[0]} {pods[1]}")
    if store is not None and not re.fullmatch(r"[a-z0-9]+://[^\s\"']+[^\s\"'/]", store):
        raise ValueError(f"--store must be a URI such as gs://BUCKET/FOLDER; received {store!r}")
    if account is not None and store is None:
        raise ValueError("--account is for --store")


if __name__ == "__main__":
    sys.exit(main())
