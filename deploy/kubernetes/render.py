"""train.yaml for another number of workers, name, image or command line. Needs nothing but Python.

What stands after `--` is the command line of alexnet_tf.train, besides --devices and --peer-timeout.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

TEMPLATE = Path(__file__).with_name("train.yaml")
NAME = "alexnet-train"
LONGEST_LABEL = 63  # characters of a pod's name in the DNS


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and prints the file; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    own, arguments = words, None
    if "--" in words:
        own, arguments = words[: words.index("--")], words[words.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="how many (default %(default)s)")
    parser.add_argument("--name", default=NAME, help="of the job and its service (default %(default)s)")
    parser.add_argument("--image", help="where the cluster finds the image")
    args = parser.parse_args(own)
    try:
        print(render(args.workers, args.name, args.image, arguments), end="")
    except ValueError as error:
        parser.error(str(error))
    return 0


def render(
    workers: int = 4,
    name: str = NAME,
    image: str | None = None,
    arguments: Sequence[str] | None = None,
    text: str | None = None,
) -> str:
    """Changes what train.yaml marks with EDIT.

    Args:
      workers: how many pods train together.
      name: of the job and its service.
      image: None keeps the one of the file.
      arguments: command line of alexnet_tf.train, besides `--devices` and `--peer-timeout`; None keeps it.
      text: the file; None reads train.yaml.

    Raises:
      ValueError: when a value does not fit.
    """
    if workers < 1:
        raise ValueError(f"--workers must be 1 or more; received {workers}")
    longest = f"{name}-{workers - 1}"
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name) or len(longest) > LONGEST_LABEL:
        raise ValueError(
            "--name must be small letters, digits and dashes, and with the worker's number "
            f"{LONGEST_LABEL} characters at most; received {name!r}"
        )
    text = TEMPLATE.read_text(encoding="utf-8") if text is None else text
    text = re.sub(r"(completions|parallelism): \d+", rf"\g<1>: {workers}", text)
    text = re.sub(
        rf'(?P<indent>\n +)"{NAME}-0\.{NAME}:(?P<port>\d+)"(,\s+"{NAME}-\d+\.[^"]+")*',
        lambda found: ",".join(
            f'{found["indent"]}"{NAME}-{index}.{NAME}:{found["port"]}"' for index in range(workers)
        ),
        text,
    )
    if arguments is not None:
        text = re.sub(
            r'(\n +- )"--recipe=.*"(\n +- "--.*")*',
            lambda found: "".join(f"{found[1]}{json.dumps(word)}" for word in arguments),
            text,
        )
    if image is not None:
        text = re.sub(r"image: \S+", lambda _: f"image: {json.dumps(image)}", text)
    return text.replace(NAME, name)


if __name__ == "__main__":
    sys.exit(main())
