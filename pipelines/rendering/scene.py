"""One picture of the built-in data set: background, clutter, object, occluder, light, noise.

Colours, light, clutter and occlusion are drawn from the same distributions for every class, so that
only the object's outline and surface tell what it is.
"""

from __future__ import annotations

import functools
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipelines.rendering.shapes import SHAPES, Pattern, Shape

SIDE = 256  # section 2: pictures are brought to 256 x 256
JPEG_QUALITY = 88
EXTENT = (0.55, 0.82)  # the object's diameter as a share of the picture's side
PERIOD = (16.0, 26.0)  # of the surface pattern, in pixels
TILT = math.radians(25)  # the object is turned by up to this much to either side
OCCLUDED = 0.3  # share of the pictures in which a bar lies across the object
BLURRED = 0.3
NOISE = 6.0  # standard deviation of the sensor noise where light is full, in grey levels
SUPERSAMPLING = 2  # of outlines, against jagged edges
RIM = 3  # width in pixels of the white border that sets an object off, as on a sticker
SHADOW = 12  # pixels around the object that its shadow may reach

Colour = tuple[int, int, int]
Size = tuple[int, int]
BLACK: Colour = (0, 0, 0)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform in [low, high); several times faster than `rng.uniform` for one number."""
    return low + (high - low) * rng.random()


def _colour(rng: np.random.Generator, low: float, high: float, chroma: float = 190.0) -> Colour:
    """A colour of random hue whose luma lies in about [low, high]."""
    red, green, blue = (chroma * value for value in rng.random(3).tolist())
    lift = _between(rng, low, high) - (0.299 * red + 0.587 * green + 0.114 * blue)
    return (
        int(min(max(red + lift, 0.0), 255.0)),
        int(min(max(green + lift, 0.0), 255.0)),
        int(min(max(blue + lift, 0.0), 255.0)),
    )


def _picture(values: NDArray[np.floating]) -> Image.Image:
    """A grey or RGB picture of an array's values, clipped to 0..255."""
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


@functools.cache
def _noise_tile() -> Image.Image:
    """Grey noise around 128, twice the picture's side: a picture takes a random window of it."""
    return _picture(np.random.default_rng(2012).normal(128.0, NOISE, (2 * SIDE, 2 * SIDE)))


@functools.cache
def _shadow_table() -> list[int]:
    """How dark a shadow is where the object's blurred mask is 0..255."""
    return [int(0.6 * value) for value in range(256)]


def _background(rng: np.random.Generator) -> Image.Image:
    """A coloured cloud: random colours on a coarse grid, under finer and often stretched grain."""
    rows, columns = rng.integers(2, 6, 2).tolist()
    cloud = _between(rng, 5.0, 16.0) * rng.standard_normal((rows, columns, 3), np.float32)
    cloud += np.array(_colour(rng, 105, 165, chroma=90.0), np.float32)
    rows, columns = rng.integers(6, 56, 2).tolist()
    grain = 20.0 + _between(rng, 3.0, 14.0) * rng.standard_normal((rows, columns), np.float32)
    # Nothing here is finer than a quarter of the picture's resolution, so it is put together there.
    small = (SIDE // 4, SIDE // 4)
    picture = _picture(cloud).resize(small, Image.Resampling.BICUBIC)
    picture.paste(BLACK, mask=_picture(grain).resize(small, Image.Resampling.BICUBIC))
    return picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def _scatter(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Things of no class: plain blobs, splinters and lines anywhere in the picture."""
    for kind in rng.integers(0, 4, rng.integers(1, 6)).tolist():
        x, y, size = _between(rng, -10, SIDE + 10), _between(rng, -10, SIDE + 10), _between(rng, 5, 26)
        fill = _colour(rng, 60, 200)
        angles = 2 * math.pi * np.sort(rng.random(4))
        if kind == 0:
            draw.ellipse((x - size, y - size * 0.7, x + size, y + size * 0.7), fill=fill)
        elif kind == 1:
            points = np.stack([x + size * np.cos(angles), y + size * np.sin(angles)], axis=1)
            draw.polygon(points.ravel().tolist(), fill=fill)
        else:
            end = (x + 4 * size * math.cos(angles[0]), y + 4 * size * math.sin(angles[0]))
            draw.line((x, y, *end), fill=fill, width=1 + int(size) // 5)


def _surface(
    pattern: Pattern, size: Size, centre: list[float], pose: tuple[float, float], rng: np.random.Generator
) -> Image.Image:
    """The pattern over a canvas, in a dark and a light colour of which either may come first."""
    x = (np.arange(size[0], dtype=np.float32) - np.float32(centre[0]))[None, :]
    y = (np.arange(size[1], dtype=np.float32) - np.float32(centre[1]))[:, None]
    angle, facing = pose
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    field = pattern(
        np.float32(facing) * (cosine * x + sine * y), cosine * y - sine * x, _between(rng, *PERIOD), rng
    )
    surface = _picture(field * np.float32(127.0) + np.float32(127.5))
    colours = np.array([_colour(rng, 15, 85), _colour(rng, 165, 240)])
    first, second = colours if rng.random() < 0.5 else colours[::-1]
    ramp = first + np.outer(np.arange(256), second - first) // 255
    surface.putpalette(ramp.astype(np.uint8).tobytes())
    return surface.convert("RGB")


def _silhouette(points: NDArray[np.float64], size: Size) -> tuple[Image.Image, Image.Image]:
    """The polygon as a smooth mask, and what a rim inside its border leaves of it, both grey."""
    fine = Image.new("L", (SUPERSAMPLING * size[0], SUPERSAMPLING * size[1]))
    flat = (points * SUPERSAMPLING).ravel().tolist()
    drawing = ImageDraw.Draw(fine)
    drawing.polygon(flat, fill=255)
    mask = fine.reduce(SUPERSAMPLING)
    drawing.line(flat + flat[:2], fill=0, width=2 * SUPERSAMPLING * RIM)
    return mask, fine.reduce(SUPERSAMPLING)


def _object(picture: Image.Image, shape: Shape, rng: np.random.Generator) -> Image.Image:
    """Draws the object with its shadow and rim into `picture`; returns its mask, grey [SIDE, SIDE]."""
    radius = 0.5 * SIDE * _between(rng, *EXTENT)
    margin = max(0.0, 0.5 * SIDE - 0.95 * radius - 16)  # a random crop may take 32 pixels on one side
    centre = 0.5 * SIDE + margin * (2.0 * rng.random(2) - 1.0)
    angle = _between(rng, -TILT, TILT)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    facing = 1.0 if rng.random() < 0.5 else -1.0  # right or left
    points = (shape.outline(rng) * (facing, _between(rng, 0.85, 1.0))) @ turn * radius + centre

    # All further work happens on a canvas just large enough for the object and its shadow.
    corner = np.floor(points.min(axis=0)).astype(int) - SHADOW
    left, top = corner.tolist()
    width, height = (np.ceil(points.max(axis=0)).astype(int) + SHADOW - corner).tolist()
    size = (width, height)
    mask, inside = _silhouette(points - corner, size)
    shadow = mask.reduce(4).filter(ImageFilter.BoxBlur(2)).resize(size, Image.Resampling.BILINEAR)
    shift = rng.integers(-4, 5, 2).tolist()
    picture.paste(BLACK, (left + shift[0], top + shift[1]), shadow.point(_shadow_table()))

    surface = _surface(shape.pattern, size, (centre - corner).tolist(), (angle, facing), rng)
    picture.paste(_colour(rng, 240, 255, chroma=40.0), (left, top), mask)
    picture.paste(surface, (left, top), inside)
    whole = Image.new("L", (SIDE, SIDE))
    whole.paste(mask, (left, top))
    return whole


def _occlude(picture: Image.Image, mask: Image.Image, rng: np.random.Generator) -> None:
    """Lays a plain bar across the object, and takes it out of the mask."""
    left, top, right, bottom = mask.getbbox() or (0, 0, SIDE, SIDE)
    x, y = _between(rng, left, right), _between(rng, top, bottom)
    angle, length = _between(rng, 0, math.pi), _between(rng, 40, 200)
    across, down = length * math.cos(angle), length * math.sin(angle)
    ends = (x - across, y - down, x + across, y + down)
    width = int(rng.integers(5, 17))
    ImageDraw.Draw(picture).line(ends, fill=_colour(rng, 25, 230), width=width)
    ImageDraw.Draw(mask).line(ends, fill=0, width=width)


def _finish(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sometimes a little blur; then light from one side, with sensor noise."""
    if rng.random() < BLURRED:
        picture = picture.filter(ImageFilter.BoxBlur(_between(rng, 0.3, 1.0)))
    shade = _picture(50.0 * rng.random((2, 2))).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    left, top = rng.integers(0, SIDE, 2).tolist()
    noise = _noise_tile().crop((left, top, left + SIDE, top + SIDE))
    picture.paste(BLACK, mask=ImageChops.add(shade, noise, 1.0, -128))
    return picture


def draw(label: int, rng: np.random.Generator) -> tuple[Image.Image, NDArray[np.bool_]]:
    """One picture of class `label`.

    Returns:
      the RGB picture, SIDE x SIDE, and the mask bool [SIDE, SIDE] of the object's visible pixels.
    """
    picture = _background(rng)
    _scatter(ImageDraw.Draw(picture), rng)
    mask = _object(picture, SHAPES[label], rng)
    if rng.random() < OCCLUDED:
        _occlude(picture, mask, rng)
    return _finish(picture, rng), np.asarray(mask) > 127


def encode(picture: Image.Image) -> bytes:
    """JPEG bytes."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
