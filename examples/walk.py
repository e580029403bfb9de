"""From a FASTA file to a filled FASTA file, one public call at a time: `python examples/walk.py [FOLDER]`.

`maskseq pretrain` and `maskseq infill` do the same with checkpoints, resuming, calibration and reports. Here every step
is one visible call on a short stretch of a real genome, so that each intermediate can be looked at. It takes seconds,
and thirty steps are far too few to fill DNA well.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F

from maskseq.corpus.build import build_from_records
from maskseq.corpus.splits import SplitConfig
from maskseq.infill.filling import FilledRecord, fill_as_requested
from maskseq.infill.options import InfillOptions
from maskseq.masking.config import MaskingConfig
from maskseq.model.encoder import Encoder
from maskseq.model.presets import preset
from maskseq.packing.packing import PackingConfig
from maskseq.packing.rows import PackedRows
from maskseq.plugins import format_for
from maskseq.predict.encoder import EncoderPredict
from maskseq.predict.predictor import Predictor
from maskseq.training.loss import Batch
from maskseq_genomics.nucleotide import NucleotideTokenizer

GENOME = Path(__file__).resolve().parents[1] / "recipes" / "samples" / "lambda_virus.fa.gz"
BASES = 20_000
HOLES = ((3_000, 3_020), (9_000, 9_001), (15_000, 15_012))  # half-open, from 0
CONTEXT, ROW_TOKENS, STEPS = 256, 2_048, 30


def with_holes(folder: Path) -> Path:
    """Write the beginning of the genome as a FASTA file in which some bases are unknown."""
    reader = format_for(GENOME)
    (record,) = reader.read(GENOME)
    record = record.with_letters(BASES, len(record), b"")
    for start, stop in HOLES:
        record = record.with_letters(start, stop, b"N" * (stop - start))
    file = folder / "holes.fa"
    reader.write([record], file)
    return file


def train(model: Encoder, rows: PackedRows) -> Iterator[float]:
    """A plain training loop; yields the loss of each step, in nats per scored cell."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for number in range(STEPS):
        batch = Batch.of(rows.row(number), torch.device("cpu"))
        states = model(batch.ids, batch.positions, batch.cu_seqlens, batch.max_seqlen)
        (cells,) = batch.scored  # one entry a field, and DNA has one field
        logits = model.logits(states[cells.token], field=0)  # the head sees the scored cells only
        losses = F.cross_entropy(logits, cells.target, reduction="none")
        loss = (cells.weight * losses).sum() / cells.weight.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def fill(model: Encoder, tokenizer: NucleotideTokenizer, file: Path) -> list[FilledRecord]:
    """Fill every unknown base of the file's records; both strands are averaged."""
    predictor = Predictor(
        predict=EncoderPredict(model, tokenizer.symmetries()),
        tokenizer=tokenizer,
        context=model.config.max_positions,
    )
    records = format_for(file).read(file)
    return list(fill_as_requested(predictor, records, InfillOptions()))


def main(folder: Path) -> tuple[Path, Path]:
    """Walk from FASTA to filled FASTA in `folder`; returns the file with holes and the filled one."""
    given = with_holes(folder)

    # 1. Format: file -> records
    records = list(format_for(given).read(given))
    for record in records:
        print(f"record     {record.key}: {len(record):,} bases, {record.residues.count(b'N')} of them unknown")

    # 2. Tokenizer: record -> ids [length, fields]
    tokenizer = NucleotideTokenizer()
    encoded = tokenizer.encode(records[0])
    print(f"ids        {list(encoded.ids.shape)} of {tokenizer.vocabulary.names}, unknown ones are [MASK]")

    # 3. Corpus: tokenized records in immutable parts, split into training and selection data
    corpus = build_from_records(
        records,
        output=folder / "corpus",
        tokenizer=tokenizer,
        split=SplitConfig(by="region", selection=0.1, guard=CONTEXT),
    )
    n_train = int(corpus.lengths[corpus.sequences("train")].sum())
    print(f"corpus     {len(corpus.lengths)} sequences, {n_train:,} tokens to train on")

    # 4. Packing and masking: row n is a pure function of n
    rows = PackedRows(
        corpus,
        config=PackingConfig(row_tokens=ROW_TOKENS, context=CONTEXT),
        masking=MaskingConfig(ratio=0.2),
        seed=0,
    )
    row = rows.row(0)
    n_scored = int((row.weights > 0).sum())
    print(f"packed row {list(row.inputs.shape)}: {len(row.cu_seqlens) - 1} segments, {n_scored} scored cells")

    # 5. Encoder: ids -> hidden states -> logits of the cells that are asked for
    model = Encoder(preset("nano", tokenizer.vocabulary, n_layers=2, max_positions=CONTEXT))
    print(f"encoder    {model.n_parameters:,} parameters, hidden states [{ROW_TOKENS}, {model.config.hidden_size}]")

    # 6. Training: weighted cross-entropy of the scored cells
    losses = list(train(model, rows))
    print(f"training   {len(losses)} steps, loss {losses[0]:.3f} -> {losses[-1]:.3f} nats per scored cell")

    # 7. Infill: masked cells are predicted, the surest are given their values, until none is left
    filled = fill(model, tokenizer, given)
    for each in filled:
        result = each.filled.fill
        shape, passes = list(result.probabilities.shape), int(result.n_passes[0])
        print(f"fill       {len(result.cells)} cells, probabilities {shape}, {passes} forward passes")

    # 8. Format: the filled records -> file, everything known byte for byte
    output = folder / "filled.fa"
    format_for(output).write([each.record for each in filled], output)
    print(f"written    {output}")
    return given, output


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as temporary:
            main(Path(temporary))
