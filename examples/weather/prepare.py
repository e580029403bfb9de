"""Daily weather of Seattle, 2012 to 2015 (NOAA, by way of the package vega_datasets), a month a sequence.

python examples/weather/prepare.py weather.csv
"""

import argparse
import csv
from pathlib import Path

import vega_datasets


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    output = arguments.parse_args().output
    source = Path(vega_datasets.__file__).parent / "_data" / "seattle-weather.csv"
    with source.open(newline="") as given, output.open("w", newline="") as file:
        rows = csv.DictReader(given)
        table = csv.DictWriter(file, ["month", *(rows.fieldnames or ())], lineterminator="\n")
        table.writeheader()
        for row in rows:
            year, month, day = row["date"].split("/") if "/" in row["date"] else row["date"].split("-")
            date = f"{year}-{int(month):02d}-{int(day):02d}"
            table.writerow({"month": date[:7], **row, "date": date})


if __name__ == "__main__":
    main()
