"""Handwritten digits of 8 x 8 pixels, as a table without code: masked quadrants, by rows and columns or in a line.

python examples/digits/run.py OUTPUT      # needs scikit-learn, which has the images
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import maskseq

SIDE, LEVELS = 8, 17
QUADRANTS = [np.ix_(rows, columns) for rows in (range(4), range(4, 8)) for columns in (range(4), range(4, 8))]


def write_table(images: np.ndarray, path: Path) -> Path:
    """A row for each pixel."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "row", "column", "grey"])
        for number, image in enumerate(images.astype(int).tolist()):
            rows.writerows([number, row, column, image[row][column]] for row in range(SIDE) for column in range(SIDE))
    return path


def recipe(file: Path, *, tokens: int, plane: bool) -> dict:
    """Rows and columns are given; `plane`: they are also where pixels stand."""
    places = [str(n) for n in range(SIDE)]
    levels = [str(n) for n in range(LEVELS)]
    columns = ["grey", "row", "column"] if plane else ["grey"]
    ordered = dict.fromkeys(columns[1:], places) | {"grey": levels}
    size = {"preset": "nano", "n_layers": 3, "hidden_size": 96, "n_heads": 4}
    return {
        "data": {
            "files": [str(file)],
            "format": "table",
            "format_options": {"key": "image"},
            "split": {"by": "record"},
        },
        "tokenizer": {"name": "columns", "columns": columns, "ordered": ordered, "given": columns[1:]},
        "model": size | ({"rope_fields": ["row", "column"]} if plane else {}),
        "packing": {"row_tokens": 2048, "context": 64},
        "masking": {
            "ratio": [0.15, 0.5],
            "spans": {"weight": 1.0, "mean_length": 9, **({"grid": SIDE} if plane else {})},
        },
        "optimizer": {"lr": 3e-3},
        "training": {"tokens": tokens, "rows": 1, "device": "cpu", "comparison_cells": 0},
        "blend": False,
    }


def fill(run: maskseq.TrainedModel, images: np.ndarray, hidden: list, folder: Path) -> np.ndarray:
    """The mean grey of each masked pixel."""
    file = write_table(images, folder / "held_out.csv")
    ranges = {}
    for number, where in enumerate(hidden):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[where] = True
        ranges[str(number)] = [(i, i + 1) for i in np.flatnonzero(mask.ravel()).tolist()]
    filled = images.astype(float).copy()
    records = run.reader(file).read(file)
    for number, each in enumerate(run.infill(records, ranges=ranges, numbers="mean", symmetries=False)):
        filled[number].reshape(-1)[each.filled.fill.cells[:, 0]] = each.posterior.mean
    return filled


def gaussian(train: np.ndarray, images: np.ndarray, hidden: list) -> np.ndarray:
    """The best linear guess by the covariances of all pixels of the training images."""
    pixels = train.reshape(len(train), -1)
    mean, covariance = pixels.mean(axis=0), np.cov(pixels.T) + 0.5 * np.eye(SIDE * SIDE)
    filled = images.astype(float).copy()
    for number, where in enumerate(hidden):
        mask = np.zeros((SIDE, SIDE), bool)
        mask[where] = True
        m, k = np.flatnonzero(mask), np.flatnonzero(~mask)
        seen = images[number].reshape(-1)[k] - mean[k]
        guess = mean[m] + covariance[np.ix_(m, k)] @ np.linalg.solve(covariance[np.ix_(k, k)], seen)
        filled[number].reshape(-1)[m] = guess
    return filled


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--tokens", type=int, default=1_500_000, help="of training; fewer are faster")
    arguments.add_argument("--images", type=int, default=1797)
    asked = arguments.parse_args()
    asked.output.mkdir(parents=True)
    images = load_digits().images[: asked.images]
    held_out = len(images) // 6
    train, test = images[:-held_out], images[-held_out:]
    file = write_table(train, asked.output / "digits.csv")
    hidden = [QUADRANTS[number % 4] for number in range(len(test))]
    guesses = {"mean image": np.broadcast_to(train.mean(axis=0), test.shape), "Gaussian": gaussian(train, test, hidden)}
    for name, plane in (("encoder, pixels in a line", False), ("encoder, rows and columns", True)):
        run = maskseq.pretrain(
            recipe(file, tokens=asked.tokens, plane=plane), output=asked.output / ("plane" if plane else "line")
        )
        guesses[name] = fill(run, test, hidden, asked.output)
    figures = {}
    for name, guess in guesses.items():
        wrong = np.concatenate([(guess[n] - test[n])[where].ravel() for n, where in enumerate(hidden)])
        off = abs(wrong)
        figures[name] = {"mean error": round(float(off.mean()), 3), "exact": round(float((off < 0.5).mean()), 3)}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
