"""A toy project for tests of the cache; as a script, runs it in a process of its own.

usage: toy_project.py FOLDER [seed]
"""

from __future__ import annotations

import sys
from pathlib import Path

STAGES = ("seeds", "labels", "figures")

FILES = {
    "toysteps/seeds.py": """
        '''Counts up; goes on from the shards it finds.'''
        from toylib.numbers import count

        def run(job):
            for shard in range(3):
                count(job, shard)
            text = "".join((job.scratch / f"{i}.txt").read_text() for i in range(3))
            (job.folder / "seeds.txt").write_text(text)
            return {"shards": 3}
        """,
    "toysteps/labels.py": """
        from toylib import write
        from toylib.unused import nothing

        def run(job):
            text = (job.inputs["seeds"] / "seeds.txt").read_text()
            for name in "ab":
                write(job.folder / "deep" / f"{name}.txt", name + text)
            return {"labels": 2}
        """,
    "toysteps/figures.py": """
        def run(job):
            texts = [p.read_text() for p in sorted((job.inputs["labels"] / "deep").iterdir())]
            (job.folder / "figures.txt").write_text("|".join(texts) + job.config.figures.title)
        """,
    "toylib/__init__.py": """
        _EXPORTS = {"write": "toylib.writing", "other": "toylib.unused"}

        def __getattr__(name):
            from importlib import import_module
            if name not in _EXPORTS:
                raise AttributeError(name)
            return getattr(import_module(_EXPORTS[name]), name)
        """,
    "toylib/numbers.py": """
        def count(job, shard):
            from .shards import make
            make(job, shard)
        """,
    "toylib/shards.py": """
        from toylib import arithmetic

        def make(job, shard):
            path = job.scratch / f"{shard}.txt"
            if job.pieces.has(path):
                return
            if job.context:
                job.context(f"shard {shard}")
            with job.pieces.write(path) as temporary:
                temporary.write_text(f"{arithmetic.add(job.config.seed, shard)}\\n")
        """,
    "toylib/arithmetic.py": """
        def add(a, b):
            # adds
            return a + b
        """,
    "toylib/writing.py": """
        def write(path, text):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        """,
    "toylib/unused.py": "nothing = None",
}


def create(folder: Path) -> None:
    from textwrap import dedent

    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip())


def stages() -> list:
    from getam.cache import Stage

    return [
        Stage("seeds", "toysteps.seeds:run", reads=("seed",), data=("images",)),
        Stage("labels", "toysteps.labels:run", needs=("seeds",), data=("images", "classes")),
        Stage("figures", "toysteps.figures:run", needs=("labels",), reads=("figures",)),
    ]


CONFIG = {"seed": 1, "figures": {"title": "t", "colours": ["red"]}, "workers": 2}
DATA = {"images": {"i1": "d1", "i2": "d2"}, "classes": {"cat": "1"}}


def main(folder: str, seed: str = "1") -> None:
    from getam.cache import DataPart, Runner, Store

    sys.path.insert(0, folder)

    def report(event) -> None:
        print(event.kind, event.stage, event.detail, flush=True)

    runner = Runner(
        Store(Path(folder) / "artifacts"),
        stages(),
        CONFIG | {"seed": int(seed)},
        {name: DataPart.of_items(items) for name, items in DATA.items()},
        folder,
        context=lambda line: print(line, flush=True),
        packages=("toysteps", "toylib"),
        report=report,
    )
    runner.run(runner.plan())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(*sys.argv[1:])
