"""Remakes the pictures of this folder from a finished quickstart, by the project's own commands.

    make quickstart 2>&1 | tee quickstart.log
    python docs/pictures/make.py --run runs/quickstart --log quickstart.log

augmentation.png is made of the built-in pictures and needs no run. kernels.png and saliency.png are what
`alexnet_tf.visualize` draws, report.png is the run's report as Chromium shows it, and terminal.svg is lines
of the log. What cannot be made is said and left as it is: report.png without Chromium, terminal.svg without
a log.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LARGEST = 150_000  # bytes of one picture: a page of documentation should open at once
LOSSLESS = 100_000  # above it a picture gets a palette of COLOURS
COLOURS = 256
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REPORT_SIZE = (1200, 1000)  # pixels of the window
EXPLAINED = ("leaf", "ladybird")  # classes whose pictures saliency.png shows
SALIENCY_WIDTH = 680  # pixels: maps are noise to a packer
AUGMENTED, AUGMENTED_SEED, MEASURED = 6, 5, 200  # pictures shown; of their crops; pictures for the mean
TILE, LABEL = 88, 104  # pixels of a picture in augmentation.png, and of the names beside it
TERMINAL_COLUMNS = 120
# The parts of a log that terminal.svg shows: from a line that holds the first words on, so many lines.
# Between two parts stands a line of dots.
SHOWN = (
    ("alexnet_tf.train", 6),
    ("step 100/", 2),
    ("step 200/", 4),
    ("protocol     centre crop", 3),
    ("alexnet_tf.predict --export", 13),
)
DOTS = "  ⋮"
# A window with a monospaced font of the reader's own; nothing is fetched from anywhere.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{
  font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre;
}}
.{unique_id}-title {{ font: 16px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> int:
    """Parses the command line and makes what can be made; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder of a finished `make quickstart`")
    parser.add_argument("--log", type=Path, help="what `make quickstart` said, for terminal.svg")
    arguments = parser.parse_args()
    augmentation()
    if arguments.run:
        kernels(arguments.run)
        saliency(arguments.run)
        report(arguments.run)
    else:
        print("kernels.png, saliency.png, report.png: left as they are; --run takes a finished quickstart")
    if arguments.log:
        terminal(arguments.log)
    else:
        print("terminal.svg: left as it is; --log takes what `make quickstart` said")
    too_large = [path.name for path in HERE.iterdir() if path.stat().st_size > LARGEST]
    if too_large:
        print(f"error: over {LARGEST} bytes: {', '.join(too_large)}", file=sys.stderr)
    return bool(too_large)


def augmentation() -> None:
    """augmentation.png: six built-in pictures as recipes show them to the network in training."""
    import dataclasses

    import numpy as np

    from alexnet_tf import recipe
    from pipelines import dataset
    from pipelines.pictures import preprocess, statistics
    from pipelines.sources import open_source

    # In one order, so that the same pictures stand below one another.
    source = open_source(dataclasses.replace(recipe.get("paper").data_config("synthetic"), shuffle=False))
    rows = {}
    for name in ("paper", "original", "small_data"):
        config = dataclasses.replace(
            recipe.get(name).data_config("synthetic"), shuffle=False, seed=AUGMENTED_SEED
        )
        accumulator = statistics.StatsAccumulator()
        for example in source.dataset("train").take(MEASURED):
            accumulator.update(preprocess.prepare(example["image_bytes"], config).numpy()[np.newaxis])
        stats = accumulator.result()
        (batch,) = dataset.build(source, config, "train", AUGMENTED, training=True, stats=stats).take(1)
        if not rows:
            pictures = [example["image_bytes"] for example in source.dataset("train").take(AUGMENTED)]
            rows["prepared"] = [preprocess.prepare(one, config).numpy() for one in pictures]
        rows[f"{name}\ncrop, mirror"] = batch["image"].numpy()
        if config.colour_noise != "none":
            seen = preprocess.to_pixels(
                batch["image"],
                stats,
                config,
                training=True,
                colour_shift=batch["colour_shift"],
                windows=batch.get("window"),
            )
            # The mean is added again, for the eye.
            pixels = np.clip(seen.numpy() + stats.mean_crop(config), 0, 255)
            rows[f"{name}\n+ colour noise"] = pixels.astype(np.uint8)
    _tiled(rows, "augmentation.png")


def _tiled(rows: dict[str, Any], name: str) -> None:
    """Rows of pictures with their names, each picture TILE pixels wide."""
    from PIL import Image, ImageDraw, ImageFont

    count = max(map(len, rows.values()))
    sheet = Image.new("RGB", (LABEL + count * (TILE + 4), len(rows) * (TILE + 8)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (label, pictures) in enumerate(rows.items()):
        top = number * (TILE + 8) + 4
        draw.multiline_text((2, top + TILE // 2 - 16), label, "black", font, spacing=4)
        for place, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (LABEL + place * (TILE + 4), top))
    with tempfile.TemporaryDirectory() as folder:
        sheet.save(Path(folder) / name)
        _shrink(Path(folder) / name, name)


def kernels(run: Path) -> None:
    """kernels.png: the 96 kernels of conv1, figure 3 of the paper."""
    with tempfile.TemporaryDirectory() as folder:
        _visualize("filters", run, folder)
        _shrink(Path(folder) / "filters.png", "kernels.png")


def saliency(run: Path) -> None:
    """saliency.png: which pixels a class hangs on, for the first picture of each class in EXPLAINED."""
    files = [str(next((run / "pictures").glob(f"{name}-*.jpg"))) for name in EXPLAINED]
    with tempfile.TemporaryDirectory() as folder:
        _visualize("saliency", run, folder, "--image", *files)
        _shrink(Path(folder) / "saliency.png", "saliency.png", SALIENCY_WIDTH)


def report(run: Path) -> None:
    """report.png: the top of the run's report as a browser shows it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"report.png: left as it is; none of {', '.join(BROWSERS)} is installed")
        return
    width, height = REPORT_SIZE
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "report.png"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        command += [f"--window-size={width},{height}", f"--screenshot={picture}"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        subprocess.run([*command, (run / "report.html").resolve().as_uri()], check=True, capture_output=True)
        _shrink(picture, "report.png")


def terminal(log: Path) -> None:
    """terminal.svg: what `make quickstart` says, in parts."""
    from rich.console import Console
    from rich.text import Text

    said = log.read_text(encoding="utf-8").splitlines()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=TERMINAL_COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text("$ make quickstart", style="bold"))
        for number, (words, count) in enumerate(SHOWN):
            if number:
                console.print(Text(DOTS, style="dim"))
            first = next(place for place, line in enumerate(said) if words in line)
            for line in said[first : first + count]:
                console.print(_coloured(line), soft_wrap=False)
    picture = console.export_svg(title="make quickstart", code_format=SVG, unique_id="quickstart")
    (HERE / "terminal.svg").write_text(picture, encoding="utf-8")
    print("terminal.svg")


def _coloured(line: str) -> object:
    """A line of the log as `rich` prints it: commands and figures stand out."""
    from rich.text import Text

    # The interpreter of the environment is the reader's own.
    text = Text(re.sub(r"^\S*bin/python", "python", line))
    text.highlight_regex(r"^python -m .*", "bold cyan")
    text.highlight_regex(r"\d[\d.]*( ?%| images/s)", "green")
    text.highlight_regex(r"[█▉▊▋▌▍▎▏]+", "blue")
    return text


def _visualize(method: str, run: Path, folder: str, *options: str) -> None:
    words = [sys.executable, "-m", "alexnet_tf.visualize", method, "--workdir", str(run), "--out", folder]
    subprocess.run([*words, *options], check=True)


def _shrink(picture: Path, name: str, width: int = 0) -> None:
    """Writes a picture into this folder: as it is where that is small enough, else with a palette of its own.

    Args:
      picture: the file that was drawn.
      name: of the file here.
      width: in pixels; 0 leaves it.
    """
    from PIL import Image

    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    if width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.save(HERE / name, optimize=True)
    if (HERE / name).stat().st_size > LOSSLESS:
        few = image.quantize(COLOURS, kmeans=4, dither=Image.Dither.NONE)
        few.save(HERE / name, optimize=True)
    print(f"{name}: {image.width} x {image.height}, {(HERE / name).stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
