"""The command line: what may be asked, and which code it exits with. What is printed is `console.py`'s.

One module for each kind of work; importing it adds its commands, in the order in which `--help` lists them.
"""

# In the order of --help:
from maskseq.cli import train, infill, fit, score, generate, serve, share, tasks, judge, data, tools  # noqa: I001, F401
from maskseq.cli.app import app


def main() -> None:
    """Entry point of `maskseq` and of `python -m maskseq`."""
    app(prog_name="maskseq")
