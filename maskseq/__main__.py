"""`python -m maskseq`, which is also what torchrun starts."""

from maskseq.cli import main

main()
