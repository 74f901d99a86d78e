"""Archives as the ImageNet challenge has them, of small pictures."""

from __future__ import annotations

import io
import tarfile

from tests.support.pictures import encoded, textured

SYNSETS = ("n01751748", "n09193705", "n01440764")


def picture(synset, number):
    return encoded(textured(20, 30, seed=int(synset[1:]) % 1000 + number), "JPEG")


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_train(path, synsets=SYNSETS, count=4):
    with tarfile.open(path, "w") as outer:
        for synset in synsets:
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as inner:
                for number in range(count):
                    add(inner, f"{synset}_{number}.JPEG", picture(synset, number))
            add(outer, f"{synset}.tar", content.getvalue())
