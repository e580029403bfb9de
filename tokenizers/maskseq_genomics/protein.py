"""One token an amino acid."""

from collections.abc import Sequence as Records
from dataclasses import dataclass
from typing import Any

from maskseq.survey import Suggestion
from maskseq.types import Field
from maskseq_genomics.alphabet import AMINO_ACIDS
from maskseq_genomics.letters import LetterTokenizer
from maskseq_genomics.survey import suggest_proteins


@dataclass(frozen=True, kw_only=True)
class ProteinTokenizer(LetterTokenizer):
    """Protein, residue by residue: the twenty amino acids, U, O and the stop `*`. X, B, Z and J are unknown."""

    alphabet = AMINO_ACIDS
    fields = (Field(name="residue", tokens=tuple(AMINO_ACIDS.known)),)

    @classmethod
    def suggest(cls, records: Records[Any]) -> Suggestion | None:
        return suggest_proteins(records)
