"""Tunes of O'Neill's Music of Ireland (1850 tunes, 1903), as music21 brings them in ABC: single voices, three fields.

python examples/music/prepare.py tunes.tunes
"""

import argparse
import re
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPS, MODES = "FCGDAEB", {"": 0, "maj": 0, "mix": -1, "dor": -2, "m": -3, "min": -3}
NAMES = {"": "major", "maj": "major", "mix": "mixolydian", "dor": "dorian", "m": "minor", "min": "minor"}
MAJOR = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6, "F": -1, "Bb": -2, "Eb": -3, "Ab": -4, "Db": -5}
NOTE = re.compile(r"(\^{1,2}|_{1,2}|=)?([A-Ga-gz])([,']*)(\d*)(/*)(\d*)([<>]?)|(\|)|(\(3)")


def tunes(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Number, key and notes of each tune whose key is one of those above."""
    for block in re.split(r"\n(?=X:)", text):
        head = dict(re.findall(r"^([A-Z]):\s*(.*)$", block, flags=re.M)[::-1])
        body = "\n".join(line for line in block.splitlines() if not re.match(r"^([A-Za-z]:|%)", line))
        key = re.match(r"([A-G][#b]?)\s*([A-Za-z]{0,3})", head.get("K", ""))
        if not key or key[1] not in MAJOR or key[2].lower() not in MODES:
            continue
        signature = MAJOR[key[1]] + MODES[key[2].lower()]
        altered = dict.fromkeys(SHARPS[: max(signature, 0)], 1)
        altered |= dict.fromkeys(SHARPS[::-1][: max(-signature, 0)], -1)
        tonic = (STEPS[key[1][0]] + {"#": 1, "b": -1}.get(key[1][1:], 0)) % 12
        unit = Fraction(head.get("L", "1/8").split()[0]) * 8
        yield f"tune {head.get('X', '').strip()}", f"{tonic} {NAMES[key[2].lower()]}", notes(body, altered, unit)


def notes(body: str, altered: dict[str, int], unit: Fraction) -> list[str]:
    """`pitch:length` of each note, lengths in eighths."""
    body = re.sub(r'"[^"]*"|\{[^}]*\}|![^!]*!|\[[A-Za-z]:[^\]]*\]', "", body)
    bar: dict[str, int] = {}
    found: list[list] = []
    carried, triplet = Fraction(1), 0
    for mark, letter, octave, times, slashes, by, broken, line, three in NOTE.findall(body):
        if line or three:
            bar, triplet = ({}, triplet) if line else (bar, 3)
            continue
        name = letter.upper() + octave + str(letter.islower())
        if mark:
            bar[name] = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}[mark]
        length = unit * Fraction(int(times or 1), int(by or 2 ** len(slashes)) if slashes else 1) * carried
        carried = Fraction(1)
        if broken:
            length, carried = (
                (length * Fraction(3, 2), Fraction(1, 2)) if broken == ">" else (length / 2, Fraction(3, 2))
            )
        if triplet:
            length, triplet = length * Fraction(2, 3), triplet - 1
        pitch = "z"
        if letter != "z":
            height = 72 if letter.islower() else 60
            height += 12 * (octave.count("'") - octave.count(","))
            pitch = str(height + STEPS[letter.upper()] + bar.get(name, altered.get(letter.upper(), 0)))
        found.append([pitch, str(length)])
    return [":".join(note) for note in found]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--tunes", type=int, default=1500)
    asked = arguments.parse_args()
    spec = find_spec("music21")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install music21")
    source = Path(spec.origin).parent / "corpus" / "oneills1850"
    lines = {}
    for file in sorted(source.glob("*.abc")):
        for name, key, played in tunes(file.read_text(encoding="utf-8", errors="replace")):
            if 16 <= len(played) <= 200:
                lines.setdefault(name, f"{name}\t{key}\t{' '.join(played)}\n")
    asked.output.write_text("".join(list(lines.values())[: asked.tunes]), encoding="utf-8")


if __name__ == "__main__":
    main()
