"""Laws of masking, over random tokenizers: overlapping, strided, variable-length, several sources, unordered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from maskseq.errors import UsageError
from maskseq.masking.config import OBJECTIVES, Infill, MaskingConfig, Replacement, Spans, Tokens, ratio_at
from maskseq.masking.plan import SegmentMask, mask_segment, plan_mask
from maskseq.masking.units import RawUnits
from maskseq.types import ABSENT, Field

BASE = Field(name="base", tokens=tuple("ACGT"))
ONLY_TOKENS = MaskingConfig(tokens=Tokens(replacement=Replacement()))


def only_spans(lengths: str = "geometric", mean: float = 4.0, *, ratio: float = 0.3) -> MaskingConfig:
    spans = Spans(weight=1.0, lengths=lengths, mean_length=mean)
    return MaskingConfig(ratio=ratio, tokens=Tokens(weight=0.0), spans=spans)


def only_infill(**options: object) -> MaskingConfig:
    return MaskingConfig(tokens=Tokens(weight=0.0), infill=Infill(weight=1.0, **options))


def plain_units(length: int, n_fields: int = 1) -> np.ndarray:
    start = np.broadcast_to(np.arange(length)[:, None], (length, n_fields))
    return np.stack([start, start + 1], axis=-1)


# --- random pieces --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A random tokenizer's piece: each id is a hash of the raw values in its cell's range."""

    fields: tuple[Field, ...]
    units: np.ndarray
    raw: dict[str, dict[int, int]]
    """Raw value of each unit of each source; a negative one is unknown."""
    weights: np.ndarray

    def encode(self) -> np.ndarray:
        ids = np.empty(self.units.shape[:2], dtype=np.uint16)
        for (i, f), _ in np.ndenumerate(ids):
            values = tuple(self.raw[self.fields[f].source][u] for u in range(*self.units[i, f]))
            unknown = min(values) < 0
            ids[i, f] = self.fields[f].mask_id if unknown else hash((f, values)) % self.fields[f].n_predictable
        return ids

    def changed(self, planned: set[tuple[str, int]], rng: np.random.Generator) -> "Piece":
        """Other raw values at the planned units; unknown ones stay unknown."""
        raw = {
            source: {
                u: int(rng.integers(1_000_000)) if (source, u) in planned and v >= 0 else v for u, v in values.items()
            }
            for source, values in self.raw.items()
        }
        return replace(self, raw=raw)

    def scorable(self) -> np.ndarray:
        return (self.encode() != np.array([f.mask_id for f in self.fields])) & (self.weights > 0)

    def planned(self, config: MaskingConfig, key: int) -> set[tuple[str, int]]:
        """The raw units that the plan of `mask` hides, in the tokenizer's own coordinates."""
        units = RawUnits.of(self.units, self.fields)
        line = plan_mask(units, self.scorable(), config, rng=np.random.default_rng(key)).units
        found = set()
        for f, each in enumerate(self.fields):
            for i in range(len(self.units)):
                shift = int(units.start[i, f] - self.units[i, f, 0])
                found |= {(each.source, u) for u in range(*self.units[i, f]) if line[u + shift]}
        return found

    def mask(self, config: MaskingConfig, key: int) -> SegmentMask:
        rng = np.random.default_rng(key)
        return mask_segment(self.encode(), self.units, self.scorable(), self.fields, config, rng=rng)

    def maskable(self) -> set[tuple[str, int]]:
        cells = np.argwhere(self.scorable()).tolist()
        return {(self.fields[f].source, u) for i, f in cells for u in range(*self.units[i, f].tolist())}


def column(kind: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """The unit ranges of one field."""
    i = np.arange(length)
    width, stride, offset = rng.integers(1, 6), rng.integers(1, 5), rng.integers(-4, 5)
    if kind == "own":
        start, stop = i, i + 1
    elif kind == "overlapping":
        start, stop = i + offset, i + offset + width
    elif kind == "strided":
        start, stop = i * stride + offset, i * stride + offset + width
    elif kind == "variable":
        edges = np.concatenate([[0], np.cumsum(rng.integers(1, 6, size=length))]) + offset
        start, stop = edges[:-1], edges[1:]
    else:  # no order at all
        start = rng.integers(-3, 2 * length + 1, size=length)
        stop = start + rng.integers(1, 6, size=length)
    return np.stack([start, stop], axis=1)


KINDS = ("own", "overlapping", "strided", "variable", "unordered")


@st.composite
def segments(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> Segment:
    length = draw(st.integers(0, 24))
    columns = draw(st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from("abc")), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fields = tuple(
        Field(name=f"{n}", tokens=tuple("01234")[: rng.integers(1, 6)], controls=(ABSENT,), source=source)
        for n, (_, source) in enumerate(columns)
    )
    units = np.stack([column(kind, length, rng) for kind, _ in columns], axis=1)
    raw: dict[str, dict[int, int]] = {}
    for f, each in enumerate(fields):
        for low, high in units[:, f].tolist():
            for u in range(low, high):
                raw.setdefault(each.source, {}).setdefault(u, -1 if rng.random() < 0.05 else int(rng.integers(1000)))
    weights = np.where(rng.random(units.shape[:2]) < 0.1, 0.0, 1.0)
    return Segment(fields, units, raw, weights)


def configs(**fixed: object) -> st.SearchStrategy[MaskingConfig]:
    shares = st.sampled_from([(1.0, 0.0, 0.0), (0.8, 0.1, 0.1), (0.4, 0.3, 0.3), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
    replacement = st.builds(
        lambda s, per: Replacement(mask=s[0], random=s[1], keep=s[2], per=per),
        shares,
        st.sampled_from(["cell", "span"]),
    )
    weights = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)])
    spans = st.sampled_from([("geometric", 1.0), ("geometric", 3.5), ("fixed", 4.0), ("ngram", 8.0)])
    options = {
        "ratio": st.sampled_from([0.01, 0.15, 0.5, 0.9, 1.0, (0.1, 0.7)]),
        "mode": st.sampled_from(["cell", "field", "position", "tail", ("cell", "position", "tail")]),
    } | {name: st.just(value) for name, value in fixed.items()}

    def build(w: tuple[float, ...], s: tuple[str, float], r: Replacement, **rest: object) -> MaskingConfig:
        return MaskingConfig(
            tokens=Tokens(weight=w[0], replacement=r),
            spans=Spans(weight=w[1], lengths=s[0], mean_length=s[1], replacement=r),
            infill=Infill(weight=w[2], replacement=r),
            **rest,
        )

    return st.builds(build, weights, spans, replacement, **options)


keys = st.integers(0, 2**32 - 1)

# --- the laws -------------------------------------------------------------------------------------------------------


def check_no_leak(segment: Segment, config: MaskingConfig, key: int) -> None:
    """Other raw values at the planned units change no visible cell, nor inputs other than kept cells."""
    ids, mask, planned = segment.encode(), segment.mask(config, key), segment.planned(config, key)
    other = segment.changed(planned, np.random.default_rng(key + 1))
    np.testing.assert_array_equal(other.encode()[~mask.masked], ids[~mask.masked])

    kept = np.argwhere(mask.masked & (mask.inputs == ids)).tolist()
    shown = {(segment.fields[f].source, u) for i, f in kept for u in range(*segment.units[i, f].tolist())}
    other = segment.changed(planned - shown, np.random.default_rng(key + 2))
    np.testing.assert_array_equal(other.mask(config, key).inputs, mask.inputs)


def check_widening(segment: Segment, config: MaskingConfig, key: int) -> None:
    """Hidden are exactly the cells that meet a planned unit, by brute force over sets."""
    planned = segment.planned(config, key)
    mask = segment.mask(config, key)
    for (i, f), masked in np.ndenumerate(mask.masked):
        meets = {(segment.fields[f].source, u) for u in range(*segment.units[i, f].tolist())} & planned
        assert masked == bool(meets)


def check_scored(segment: Segment, config: MaskingConfig, key: int) -> None:
    """At least one scorable cell is hidden where there is one; nothing is hidden where there is none."""
    mask, scorable = segment.mask(config, key), segment.scorable()
    assert (mask.masked & scorable).any() == scorable.any()
    assert mask.masked.any() == scorable.any()
    assert 0 < mask.ratio <= 1 if scorable.any() else mask.ratio == 0


def check_inputs(segment: Segment, config: MaskingConfig, key: int) -> None:
    """Visible and unknown cells are as they were; a replacement is `[MASK]` or a domain id of the cell's own field."""
    ids, mask = segment.encode(), segment.mask(config, key)
    masks = np.array([f.mask_id for f in segment.fields])
    same = ~mask.masked | (ids == masks)
    np.testing.assert_array_equal(mask.inputs[same], ids[same])
    domain = mask.inputs < np.array([f.n_tokens for f in segment.fields])
    assert (domain | (mask.inputs == masks) | (mask.inputs == ids)).all()
    assert mask.inputs.dtype == ids.dtype


def check_kept_together(segment: Segment, config: MaskingConfig, key: int) -> None:
    """No kept cell tells what a masked one hides: cells that share a planned unit are all kept or all masked."""
    half = Replacement(mask=0.5, keep=0.5)
    config = replace(
        config,
        tokens=replace(config.tokens, replacement=half),
        spans=replace(config.spans, replacement=half),
        infill=replace(config.infill, replacement=half),
    )
    ids, mask, planned = segment.encode(), segment.mask(config, key), segment.planned(config, key)
    fates: dict[tuple[str, int], set[bool]] = {}
    for i, f in np.argwhere(mask.masked & (ids != [field.mask_id for field in segment.fields])).tolist():
        for u in range(*segment.units[i, f].tolist()):
            fates.setdefault((segment.fields[f].source, u), set()).add(bool(mask.inputs[i, f] == ids[i, f]))
    assert all(len(fates[unit]) == 1 for unit in planned & fates.keys())


def check_exact_count(segment: Segment, config: MaskingConfig, key: int) -> None:
    """`tokens` and `spans` plan round(ratio · n) of the n maskable units, at least one."""
    config = replace(config, mode="cell", infill=Infill(weight=0.0), tokens=replace(config.tokens, weight=1.0))
    if isinstance(config.ratio, tuple):
        config = replace(config, ratio=config.ratio[0])
    maskable, planned = segment.maskable(), segment.planned(config, key)
    assert planned <= maskable
    n = len(maskable)
    assert len(planned) == (min(n, max(1, round(config.ratio * n))))
    if n:
        assert segment.mask(config, key).ratio == len(planned) / n


LAWS: tuple[Callable[[Segment, MaskingConfig, int], None], ...] = (
    check_no_leak,
    check_widening,
    check_scored,
    check_inputs,
    check_kept_together,
    check_exact_count,
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@settings(max_examples=100, deadline=None)
@given(segment=segments(), config=configs(), key=keys)
def test_law(
    law: Callable[[Segment, MaskingConfig, int], None], segment: Segment, config: MaskingConfig, key: int
) -> None:
    law(segment, config, key)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@settings(max_examples=10_000, deadline=None)
@given(segment=segments(), config=configs(), key=keys)
def test_law_soak(
    law: Callable[[Segment, MaskingConfig, int], None], segment: Segment, config: MaskingConfig, key: int
) -> None:
    law(segment, config, key)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 20), n_fields=st.integers(1, 3), offset=st.integers(-5, 5), seed=keys)
def test_the_short_cut_for_plain_units_changes_nothing(length: int, n_fields: int, offset: int, seed: int) -> None:
    fields = [replace(BASE, source=str(f)) for f in range(n_fields)]
    short = RawUnits.of(plain_units(length, n_fields) + offset, fields)
    assert short.plain
    general = replace(short, plain=False)
    cells = np.random.default_rng(seed).random((length, n_fields)) < 0.4
    cells[0, 0] = True
    units = general.units(cells)
    np.testing.assert_array_equal(short.units(cells), units)
    np.testing.assert_array_equal(short.cells(units), cells)
    np.testing.assert_array_equal(general.cells(units), cells)
    points = general.units(np.ones_like(cells))
    np.testing.assert_array_equal(short.owner[points], general.owner[points])
    for runs in (False, True):
        one, two = short.tied(cells, units, runs=runs), general.tied(cells, units, runs=runs)
        np.testing.assert_array_equal(one[:, None] == one, two[:, None] == two)


BATCHES = st.lists(segments(), min_size=2, max_size=4)


@given(batch=BATCHES, config=configs(), key=keys)
@settings(max_examples=40, deadline=None)
def test_a_mask_does_not_depend_on_the_batch(batch: list[Segment], config: MaskingConfig, key: int) -> None:
    check_independent(batch, config, key)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@given(batch=BATCHES, config=configs(), key=keys)
@settings(max_examples=10_000, deadline=None)
def test_a_mask_does_not_depend_on_the_batch_soak(batch: list[Segment], config: MaskingConfig, key: int) -> None:
    check_independent(batch, config, key)


def check_independent(batch: list[Segment], config: MaskingConfig, key: int) -> None:
    together = [segment.mask(config, key + n) for n, segment in enumerate(batch)]
    for n in reversed(range(len(batch))):
        before = batch[n].encode()
        alone = batch[n].mask(config, key + n)
        np.testing.assert_array_equal(alone.inputs, together[n].inputs)
        np.testing.assert_array_equal(alone.masked, together[n].masked)
        np.testing.assert_array_equal(alone.target, together[n].target)
        assert (alone.objective, alone.ratio) == (together[n].objective, together[n].ratio)
        np.testing.assert_array_equal(before, batch[n].encode())


# --- likelihood -----------------------------------------------------------------------------------------------------


def masked_draws(config: MaskingConfig, *, length: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    raw, scorable = RawUnits.of(plain_units(length), [BASE]), np.ones((length, 1), dtype=bool)
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield plan_mask(raw, scorable, config, rng=rng).units[:length]


SAMPLERS = {
    "tokens": ONLY_TOKENS,
    "geometric": only_spans("geometric", 4.0),
    "geometric, long": only_spans("geometric", 30.0),
    "fixed": only_spans("fixed", 5.0),
    "ngram": only_spans("ngram"),
    "geometric, crowded": only_spans("geometric", 3.0, ratio=0.85),
    "fixed, crowded": only_spans("fixed", 2.0, ratio=0.85),
    "ngram, crowded": only_spans("ngram", ratio=0.85),
}


def assert_equally_likely(counts: np.ndarray, draws: int) -> None:
    """Each count is binomial with the common probability; the largest deviation stays within a Bonferroni bound."""
    p = counts.sum() / draws / len(counts)
    if p == 1:
        return  # all are hidden every time
    worst = np.abs(counts / draws - p).max() / np.sqrt(p * (1 - p) / draws)
    assert worst < stats.norm.isf(1e-5 / len(counts) / 2), f"a unit is {worst:.1f} standard errors off"


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("length", [7, 23])
def test_every_unit_is_equally_likely(name: str, length: int) -> None:
    draws = 3_000
    assert_equally_likely(sum(masked_draws(SAMPLERS[name], length=length, draws=draws)), draws)


@pytest.mark.soak
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("length", [2, 10, 64])
def test_every_unit_is_equally_likely_soak(name: str, length: int) -> None:
    draws = 50_000
    assert_equally_likely(sum(masked_draws(SAMPLERS[name], length=length, draws=draws)), draws)


@pytest.mark.parametrize("config", [ONLY_TOKENS, only_spans("geometric", 3.0)], ids=["tokens", "spans"])
def test_every_unit_is_equally_likely_where_cells_overlap(config: MaskingConfig) -> None:
    """Bases at the ends, which fewer 4-mers cover, are planned as often as those within; and so are two sources."""
    start = np.arange(12)
    units = np.stack([[start, start + 4], [2 * start, 2 * start + 3]]).transpose(2, 0, 1)
    raw = RawUnits.of(units, [BASE, replace(BASE, source="other")])
    scorable = np.ones((12, 2), dtype=bool)
    rng, draws = np.random.default_rng(1), 3_000
    counts = sum(plan_mask(raw, scorable, config, rng=rng).units.astype(int) for _ in range(draws))
    points = raw.units(scorable)
    assert points.sum() == 15 + 25
    assert_equally_likely(counts[points], draws)
    assert not counts[~points].any()


def test_tokens_hides_every_subset_equally_often() -> None:
    seen = [tuple(np.flatnonzero(m)) for m in masked_draws(replace(ONLY_TOKENS, ratio=0.5), length=6, draws=8_000)]
    _, counts = np.unique(seen, axis=0, return_counts=True)
    assert len(counts) == comb(6, 3)
    assert stats.chisquare(counts).pvalue > 1e-4


def circular_runs(mask: np.ndarray) -> list[int]:
    edge = int(np.argmin(mask))  # turn it so that it begins with a visible unit
    turned = np.concatenate([mask[edge:], mask[:edge]]).astype(int)
    steps = np.diff(turned, append=0)
    return (np.flatnonzero(steps == -1) - np.flatnonzero(steps == 1)).tolist()


def test_geometric_spans_are_geometric_with_the_mean_that_was_asked_for() -> None:
    """60 units in 10 runs: P(run = j) = C(59 − j, 8) / C(59, 9), the geometric law given sum and number."""
    config = only_spans("geometric", 6.0, ratio=0.3)
    runs = [circular_runs(mask) for mask in masked_draws(config, length=200, draws=2_000)]
    assert {len(r) for r in runs} == {10}
    first = np.array([np.random.default_rng(n).choice(r) for n, r in enumerate(runs)])
    p = np.array([comb(59 - j, 8) / comb(59, 9) for j in range(1, 52)])
    observed = np.bincount(first, minlength=52)[1:]
    tail = 15
    expected = np.append(p[:tail], p[tail:].sum()) * len(first)
    assert stats.chisquare(np.append(observed[:tail], observed[tail:].sum()), expected).pvalue > 1e-4


def test_fixed_spans_have_one_length_and_one_remainder() -> None:
    for mask in masked_draws(only_spans("fixed", 7.0, ratio=0.3), length=200, draws=50):
        assert sorted(circular_runs(mask)) == [4, *[7] * 8]


def test_ngrams_have_lengths_one_to_three_with_probability_inverse_to_length() -> None:
    counts = np.zeros(4)
    for mask in masked_draws(only_spans("ngram", ratio=0.2), length=1000, draws=200):
        counts += np.bincount(circular_runs(mask), minlength=4)
    assert counts[1:] / counts.sum() == pytest.approx(np.array([6, 3, 2]) / 11, abs=0.02)


def test_objectives_are_mixed_by_weight() -> None:
    config = MaskingConfig(tokens=Tokens(weight=1.0), spans=Spans(weight=3.0), infill=Infill(weight=4.0))
    raw, scorable, rng = RawUnits.of(plain_units(9), [BASE]), np.ones((9, 1), dtype=bool), np.random.default_rng(0)
    drawn = [plan_mask(raw, scorable, config, rng=rng).objective for _ in range(4_000)]
    assert stats.chisquare(np.bincount(drawn), [500, 1500, 2000]).pvalue > 1e-4


def test_a_pair_draws_the_ratio_uniformly_for_each_piece() -> None:
    shares = [m.mean() for m in masked_draws(replace(ONLY_TOKENS, ratio=(0.2, 0.6)), length=1000, draws=1_500)]
    assert stats.kstest(shares, stats.uniform(0.2, 0.4).cdf).pvalue > 1e-4


# --- replacement ----------------------------------------------------------------------------------------------------


def test_bert_replacement_keeps_its_shares_and_draws_domain_ids_only() -> None:
    """80 % [MASK], 10 % random of the field's own ids, 10 % kept; a control is replaced but never drawn."""
    fields = (replace(BASE, controls=(ABSENT,)), Field(name="channel", tokens=tuple("abcdefgh")))
    ids = np.tile([[4, 0]], (20_000, 1)).astype(np.uint8)  # [ABSENT] and a
    mask = mask_segment(
        ids, plain_units(20_000, 2), np.ones((20_000, 2), bool), fields, MaskingConfig(), rng=np.random.default_rng(0)
    )
    for f, each in enumerate(fields):
        seen = mask.inputs[mask.masked[:, f], f]
        observed = np.bincount(seen, minlength=each.n_rows)
        shares = np.zeros(each.n_rows)
        shares[: each.n_tokens] = 0.1 / each.n_tokens
        shares[each.mask_id] += 0.8
        shares[ids[0, f]] += 0.1
        assert stats.chisquare(observed, shares * len(seen)).pvalue > 1e-4


def test_one_draw_for_each_span() -> None:
    shares = Replacement(mask=0.4, random=0.2, keep=0.4, per="span")
    config = replace(
        only_spans("fixed", 5.0), spans=Spans(weight=1.0, lengths="fixed", mean_length=5.0, replacement=shares)
    )
    field = Field(name="x", tokens=tuple(f"t{n}" for n in range(1000)))
    ids = np.random.default_rng(0).integers(0, 1000, (3_000, 1))
    mask = mask_segment(
        ids, plain_units(3_000), np.ones((3_000, 1), bool), [field], config, rng=np.random.default_rng(1)
    )
    kind = np.where(mask.inputs == field.mask_id, 0, np.where(mask.inputs == ids, 2, 1))[:, 0]
    edges = np.flatnonzero(np.diff(mask.masked[:, 0].astype(int))) + 1
    runs = [r for r, h in zip(np.split(kind, edges), np.split(mask.masked[:, 0], edges), strict=True) if h[0]]
    one_kind = [len(set(r.tolist())) == 1 for r in runs]  # a random id may equal the truth, once in a thousand
    assert np.mean(one_kind) > 0.98
    fates = np.bincount([r[0] for r in runs], minlength=3)
    assert stats.chisquare(fates, np.array([0.4, 0.2, 0.4]) * len(runs)).pvalue > 1e-4


def test_cells_that_share_a_hidden_unit_are_kept_or_replaced_together() -> None:
    """Level and residual of one signal sample: were one kept, it would tell half of the other."""
    fields = (replace(BASE, source="x"), replace(BASE, name="residual", source="x"))
    ids = np.zeros((4_000, 2), dtype=np.int64)
    config = MaskingConfig(tokens=Tokens(replacement=Replacement(mask=0.5, keep=0.5)))
    mask = mask_segment(
        ids, plain_units(4_000, 2), np.ones((4_000, 2), bool), fields, config, rng=np.random.default_rng(0)
    )
    assert (mask.masked[:, 0] == mask.masked[:, 1]).all()
    assert (mask.inputs[:, 0] == mask.inputs[:, 1]).all()
    kept = (mask.inputs[mask.masked] == 0).mean()
    assert kept == pytest.approx(0.5, abs=0.06)


# --- several fields -------------------------------------------------------------------------------------------------

LOG = (
    Field(name="activity", tokens=tuple("abc")),
    Field(name="gap", tokens=tuple("0123"), source="time"),
    Field(name="time of day", tokens=tuple("01"), source="time"),
)


def log_units(length: int) -> np.ndarray:
    """Activity of event e; gap from timestamps e − 1 and e; time of day from timestamp e."""
    units = plain_units(length, 3)
    units[:, 1, 0] -= 1
    return units


def test_hiding_a_timestamp_hides_its_gap_the_next_gap_and_its_time_of_day() -> None:
    raw = RawUnits.of(log_units(6), LOG)
    only_time_of_day = np.zeros((6, 3), dtype=bool)
    only_time_of_day[2, 2] = True
    masked = raw.cells(raw.units(only_time_of_day))
    assert np.argwhere(masked).tolist() == [[2, 1], [2, 2], [3, 1]]


def log_mask(mode: str, length: int = 10, *, ratio: float = 0.3, key: int = 0) -> np.ndarray:
    config = MaskingConfig(ratio=ratio, mode=mode, tokens=Tokens(replacement=Replacement()))
    ids, scorable = np.zeros((length, 3), dtype=np.uint8), np.ones((length, 3), dtype=bool)
    return mask_segment(ids, log_units(length), scorable, LOG, config, rng=np.random.default_rng(key)).masked


@pytest.mark.parametrize("key", range(20))
def test_position_mode_hides_whole_events_and_the_gap_after_each(key: int) -> None:
    masked = log_mask("position", key=key)
    events = masked[:, 0]
    assert events.sum() == 3
    np.testing.assert_array_equal(masked[:, 2], events)
    np.testing.assert_array_equal(masked[:, 1], events | np.concatenate([[False], events[:-1]]))


def test_a_unit_belongs_to_the_position_of_the_narrowest_cell_that_depends_on_it() -> None:
    """The gap to the next event meets timestamp e + 1 first, yet its time of day makes that event e + 1's."""
    units = plain_units(5, 2)
    units[:, 0, 1] += 1
    fields = (Field(name="gap to next", tokens=("0",), source="time"), replace(LOG[2]))
    raw = RawUnits.of(units, fields)
    assert raw.owner[:6].tolist() == [0, 1, 2, 3, 4, 4]
    alone = RawUnits.of(units[:, :1], fields[:1])
    assert alone.owner[:6].tolist() == [0, 0, 1, 2, 3, 4]


def test_tail_mode_hides_the_last_events_and_nothing_before_them() -> None:
    masked = log_mask("tail")
    np.testing.assert_array_equal(masked, np.repeat(np.arange(10)[:, None] >= 7, 3, axis=1))


def test_field_mode_hides_whole_columns_of_a_source() -> None:
    seen = {tuple(log_mask("field", ratio=0.5, key=key).all(axis=0).tolist()) for key in range(30)}
    assert seen == {(True, False, False), (False, True, True)}
    for key in range(10):
        masked = log_mask("field", ratio=0.5, key=key)
        assert (masked.all(axis=0) | ~masked.any(axis=0)).all()


def test_position_mode_plans_whole_tokens_where_several_units_share_one() -> None:
    """6-mers side by side: exactly 30 % of the tokens, where planning bases would hide 1 − 0.7⁶ = 88 % of them."""
    start = 6 * np.arange(1000)
    units = np.stack([start, start + 6], axis=1)[:, None]
    ids, scorable = np.zeros((1000, 1), dtype=np.uint16), np.ones((1000, 1), dtype=bool)
    shares = [
        mask_segment(ids, units, scorable, [BASE], MaskingConfig(mode=mode), rng=np.random.default_rng(0)).masked.mean()
        for mode in ("position", "cell")
    ]
    assert shares[0] == 0.3
    assert shares[1] == pytest.approx(1 - 0.7**6, abs=0.03)


# --- infill ---------------------------------------------------------------------------------------------------------


def infill_draws(config: MaskingConfig, *, length: int, draws: int) -> list[SegmentMask]:
    ids, scorable = np.zeros((length, 1), dtype=np.uint8), np.ones((length, 1), dtype=bool)
    return [
        mask_segment(ids, plain_units(length), scorable, [BASE], config, rng=np.random.default_rng(key))
        for key in range(draws)
    ]


def test_infill_hides_a_uniform_share_of_the_target_whole_targets_included() -> None:
    masks = infill_draws(only_infill(), length=40, draws=2_000)
    shares = np.array([mask.masked[mask.target].mean() for mask in masks])
    np.testing.assert_allclose(shares, [mask.ratio for mask in masks])
    assert (shares == 1).mean() == pytest.approx(1 / 20, abs=0.02)  # 1 / n; n is about 20
    assert stats.kstest(shares - np.random.default_rng(0).random(2_000) / 20, stats.uniform.cdf).statistic < 0.05
    assert all(mask.objective == OBJECTIVES.index("infill") for mask in masks)


def test_infill_hides_less_of_the_context_the_more_of_the_target_is_hidden() -> None:
    for mask in infill_draws(only_infill(), length=300, draws=200):
        context = mask.masked[~mask.target, 0]
        assert context.sum() == round((0.3 - 0.2 * mask.ratio) * len(context))


def test_infill_regions_lie_where_their_names_say() -> None:
    def shape(region: str) -> set[tuple[bool, int, bool]]:
        masks = infill_draws(only_infill(regions=(region,), max_regions=3), length=60, draws=100)
        return {(bool(m.target[0]), int((np.diff(m.target.astype(int)) == 1).sum()), bool(m.target[-1])) for m in masks}

    assert shape("prefix") == {(True, 0, False)}
    assert shape("suffix") == {(False, 1, True)}
    assert shape("middle") == {(False, 1, False)}
    assert shape("several") == {(False, 2, False), (False, 3, False)}


def test_infill_target_takes_a_fifth_to_four_fifths() -> None:
    shares = [mask.target.mean() for mask in infill_draws(only_infill(), length=1000, draws=600)]
    assert stats.kstest(shares, stats.uniform(0.2, 0.6).cdf).pvalue > 1e-4


def test_infill_in_tail_mode_fills_the_end() -> None:
    for mask in infill_draws(replace(only_infill(), mode="tail"), length=30, draws=30):
        assert (np.diff(mask.target.astype(int)) >= 0).all()
        assert mask.target[-1]


def test_infill_in_field_mode_leaves_the_other_sources_visible() -> None:
    config = replace(only_infill(), mode="field", ratio=0.5)
    ids, scorable = np.zeros((30, 3), dtype=np.uint8), np.ones((30, 3), dtype=bool)
    seen = set()
    for key in range(40):
        mask = mask_segment(ids, log_units(30), scorable, LOG, config, rng=np.random.default_rng(key))
        seen.add((bool(mask.masked[:, 0].any()), bool(mask.masked[:, 1:].any())))
    assert seen == {(True, False), (False, True)}


# --- DNABERT's leak -------------------------------------------------------------------------------------------------

K = 6


def kmers(dna: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(dna, K)
    return (windows * 4 ** np.arange(K)).sum(axis=1)[:, None]


def dnabert_mask(length: int, rng: np.random.Generator, *, p: float = 0.025) -> np.ndarray:
    """`run_pretrain.py` of DNABERT (Ji et al. 2021): centres with probability p, each grown to k tokens in a row."""
    centres = np.flatnonzero(rng.random(length) < p)
    around = centres[:, None] + np.array([0, -1, 1, -2, 2, 3])  # MASK_LIST["6"]
    masked = np.zeros(length, dtype=bool)
    masked[np.unique(np.clip(around, 0, length - 1))] = True
    return masked


def readable(masked: np.ndarray) -> np.ndarray:
    """Which bases a visible token still shows."""
    shown = np.zeros(len(masked) + K - 1, dtype=bool)
    for i in np.flatnonzero(~masked):
        shown[i : i + K] = True
    return shown


def assert_masks(dna: np.ndarray, bases: np.ndarray, masked: np.ndarray, rng: np.random.Generator) -> None:
    """The law: other values at the bases that are said to be hidden change no visible token."""
    other = np.where(bases, (dna + rng.integers(1, 4, len(dna))) % 4, dna)
    np.testing.assert_array_equal(kmers(other)[~masked], kmers(dna)[~masked])


def test_dnabert_masks_k_tokens_to_hide_one_base_and_breaks_the_law_that_ours_keeps() -> None:
    rng = np.random.default_rng(0)
    dna = rng.integers(0, 4, 20_000)
    ids = kmers(dna)

    theirs = dnabert_mask(len(ids), rng, p=0.025)
    claimed = np.zeros(len(dna), dtype=bool)
    claimed[np.flatnonzero(theirs) + K // 2] = True  # a base for each masked token: "15 % masking"
    assert claimed.mean() == pytest.approx(0.14, abs=0.02)
    assert (~readable(theirs)).mean() < 0.035  # though only about 2.5 % of the bases are gone
    with pytest.raises(AssertionError):
        assert_masks(dna, claimed, theirs, rng)

    one = np.zeros(len(ids), dtype=bool)
    one[100 : 100 + K] = True
    assert (~readable(one)).sum() == 1

    start = np.arange(len(ids))
    units = np.stack([start, start + K], axis=1)[:, None]
    field = Field(name="6-mer", tokens=tuple(str(n) for n in range(4**K)))
    scorable = np.ones(ids.shape, dtype=bool)
    for config in (replace(ONLY_TOKENS, ratio=0.15), only_spans("geometric", 12.0, ratio=0.15)):
        ours = mask_segment(ids, units, scorable, [field], config, rng=np.random.default_rng(1))
        line = plan_mask(RawUnits.of(units, [field]), scorable, config, rng=np.random.default_rng(1)).units
        planned = line[: len(dna)]
        assert planned.sum() == round(0.15 * len(dna))
        assert not readable(ours.masked[:, 0])[planned].any()
        assert_masks(dna, planned, ours.masked[:, 0], rng)


def test_eighty_ten_ten_per_token_gives_the_hidden_base_away_but_not_here() -> None:
    """One hidden base, six tokens: drawn one by one, 1 − 0.9⁶ = 47 % of bases stay readable; drawn together, 10 %."""
    ids = kmers(np.random.default_rng(0).integers(0, 4, 4_000))
    start = np.arange(len(ids))
    units = np.stack([start, start + K], axis=1)[:, None]
    field = Field(name="6-mer", tokens=tuple(str(n) for n in range(4**K)))
    config = MaskingConfig(ratio=0.01, tokens=Tokens(replacement=Replacement(mask=0.9, keep=0.1)))
    kept_together, kept_alone, n = 0, 0, 0
    for key in range(60):
        mask = mask_segment(ids, units, np.ones(ids.shape, bool), [field], config, rng=np.random.default_rng(key))
        kept = (mask.masked & (mask.inputs == ids))[:, 0]
        alone = mask.masked[:, 0] & (np.random.default_rng(key).random(len(ids)) < 0.1)
        planned = plan_mask(
            RawUnits.of(units, [field]), np.ones(ids.shape, bool), config, rng=np.random.default_rng(key)
        ).units
        for base in np.flatnonzero(planned):
            tokens = slice(max(0, base - K + 1), base + 1)
            assert kept[tokens].all() or not kept[tokens].any()
            kept_together += kept[tokens].any()
            kept_alone += alone[tokens].any()
            n += 1
    assert kept_together / n == pytest.approx(0.1, abs=0.03)
    assert kept_alone / n == pytest.approx(1 - 0.9**6, abs=0.04)


# --- configuration --------------------------------------------------------------------------------------------------


def test_ratio_schedules() -> None:
    constant = MaskingConfig(ratio=(0.2, 0.4))
    linear = MaskingConfig(ratio=0.3, final_ratio=0.15, schedule="linear")
    step = MaskingConfig(ratio=0.3, final_ratio=(0.1, 0.2), schedule="step")
    assert ratio_at(constant, progress=0.7, in_decay=True) == (0.2, 0.4)
    assert ratio_at(linear, progress=0.0) == (0.3, 0.3)
    assert ratio_at(linear, progress=0.5) == pytest.approx((0.225, 0.225))
    assert ratio_at(linear, progress=1.01) == pytest.approx((0.15, 0.15))
    assert ratio_at(step, progress=0.99) == (0.3, 0.3)
    assert ratio_at(step, progress=0.9, in_decay=True) == (0.1, 0.2)


def test_the_schedule_reaches_the_mask() -> None:
    config = replace(ONLY_TOKENS, ratio=0.3, final_ratio=0.1, schedule="linear")
    raw, scorable = RawUnits.of(plain_units(1000), [BASE]), np.ones((1000, 1), dtype=bool)
    counts = [
        int(plan_mask(raw, scorable, config, rng=np.random.default_rng(0), progress=at).units.sum())
        for at in (0.0, 0.5, 1.0)
    ]
    assert counts == [300, 200, 100]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MaskingConfig(ratio=0.0), "ratio"),
        (lambda: MaskingConfig(ratio=(0.5, 0.2)), "pair in order"),
        (lambda: MaskingConfig(ratio=float("nan")), "ratio"),
        (lambda: MaskingConfig(final_ratio=0.1), "schedule = 'constant'"),
        (lambda: MaskingConfig(schedule="step"), "final_ratio = None"),
        (lambda: MaskingConfig(tokens=Tokens(weight=0.0)), "one above 0"),
        (lambda: MaskingConfig(mode=()), "cell, field, position, tail"),
        (lambda: Replacement(mask=0.8, random=0.1), "sum to 1"),
        (lambda: Replacement(mask=1.2, keep=-0.2), "≥ 0"),
        (lambda: Spans(mean_length=0.5), "mean_length"),
        (lambda: Spans(lengths="fixed", mean_length=2.5), "whole"),
        (lambda: Infill(regions=()), "region"),
        (lambda: Infill(target=(0.0, 0.5)), "shares"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(build: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()
