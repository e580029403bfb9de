"""The `event` tokenizer: what its ids say, what a hidden value takes with it, and what comes back from ids."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import pytest

from maskseq.constraints import Grammar
from maskseq.errors import UsageError
from maskseq.infill.sampler import InfillConfig, infill
from maskseq.predict.protocol import Example, of_ids
from maskseq.testing import check_tokenizer
from maskseq.types import ABSENT, END, OTHER
from maskseq_events.bins import NumberCounts, ValueBins, gap_bins, quantile_bins
from maskseq_events.case import ABSENT_TIME, UNKNOWN, UNKNOWN_TIME, Case, no_time
from maskseq_events.columns import Column
from maskseq_events.delimited import Csv
from maskseq_events.rebuild import NO_CLUE, Clues, place
from maskseq_events.sessions import Sessions
from maskseq_events.times import DAY, HOUR, MINUTE, SECOND
from maskseq_events.tokenizer import WEEKDAYS, EventTokenizer

MONDAY = int((datetime(2024, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def make_case(events, key="a", of_case=None):
    """A case from (activity, seconds since Monday 2024-01-01 or None or "never", amount, room)."""
    activity, when, amount, room = zip(*events, strict=True)
    special = {None: UNKNOWN_TIME, "never": ABSENT_TIME}
    time = [special[w] if w in special else MONDAY + round(w * SECOND) for w in when]
    return Case(
        key=key,
        activity=activity,
        time=np.array(time, dtype=np.int64),
        offset=np.zeros(len(events), dtype=np.int32),
        attributes={"amount": amount, "room": room},
        case_attributes=of_case or {"age": "44"},
    )


def random_case(rng, n_events, key="r", clean=False):
    hole = 0.0 if clean else 0.15
    steps = rng.choice([0, 1, 30, 3600.5, 90_000, 3e6], size=n_events) * rng.choice([1, 1.7])
    when = [None if rng.random() < hole else float(w) for w in np.cumsum(steps)]
    rows = []
    for w in when:
        amount = str(rng.integers(1, 100)) if rng.random() < 0.7 else (None if rng.random() < 0.5 else UNKNOWN)
        room = str(rng.choice(["x", "y", "z", UNKNOWN])) if rng.random() < 0.8 else None
        rows.append((str(rng.choice(["A", "B", "C"])) if rng.random() >= hole else UNKNOWN, w, amount, room))
    return make_case(rows, key, {"age": str(rng.integers(40, 45))})


@pytest.fixture(scope="module")
def tokenizer():
    rng = np.random.default_rng(0)
    cases = [random_case(rng, int(rng.integers(1, 12)), f"t{i}") for i in range(300)]
    return EventTokenizer.fit(cases, attributes=["amount", "room", "case:age"], gap_bins=12, numeric_bins=8)


def tokens(tokenizer, ids):
    return [[field.token(int(i)) for field, i in zip(tokenizer.fields, row, strict=True)] for row in ids]


def test_ids_say_what_each_event_says(tokenizer):
    case = make_case(
        [
            ("A", 10 * 3600, "50", "x"),  # Monday 10:00
            ("new", 10 * 3600 + 60, None, "new"),
            (UNKNOWN, None, UNKNOWN, None),
            ("B", 86_400 + 5, "1e9", UNKNOWN),  # Tuesday 00:00:05
            ("C", 86_400 + 5, "many", "x"),
            ("C", 86_400, "-3", "x"),
        ]
    )
    got = tokens(tokenizer, tokenizer.encode(case).ids)
    amount = tokenizer.fields[1]
    middle = next(
        t
        for t, c in zip(amount.tokens, amount.centres, strict=True)
        if abs(c - 50) == min(abs(np.array(amount.centres) - 50))
    )
    assert [row[0] for row in got] == ["A", OTHER, "[MASK]", "B", "C", "C", END]
    assert [row[1] for row in got] == [middle, ABSENT, "[MASK]", amount.tokens[-1], OTHER, amount.tokens[0], ABSENT]
    assert [row[2] for row in got] == ["x", OTHER, ABSENT, "[MASK]", "x", "x", ABSENT]
    assert {row[3] for row in got} == {"44"}
    assert [row[4] for row in got][:1] == [ABSENT]
    assert [row[4] for row in got][2:] == ["[MASK]", "[MASK]", "0 s", "backwards", ABSENT]
    assert [row[5] for row in got] == ["10", "10", "[MASK]", "00", "00", "00", ABSENT]
    assert [row[6] for row in got] == ["Mon", "Mon", "[MASK]", "Tue", "Tue", "Tue", ABSENT]


def test_gap_bins_hold_the_gaps_that_their_names_say(tokenizer):
    edges = tokenizer.gaps.edges
    for gap in (1, 2, 999_999, 10**6, 59 * 10**6, 3_600_500_000, 90_000_000_000, 3 * 10**12, 10**15):
        case = make_case([("A", 0, None, None), ("A", gap / SECOND, None, None)])
        token = int(tokenizer.encode(case).ids[1, 4])
        inside = [
            i for i in range(len(edges) + 1) if (i == 0 or edges[i - 1] <= gap) and (i == len(edges) or gap < edges[i])
        ]
        assert [token] == inside


def test_an_event_log_is_encoded_as_a_plain_reading_of_its_file_says(shared_data):
    """Against an independent reading of the Helpdesk file: split, strptime, comparisons."""
    path = shared_data / "events/helpdesk_full.csv"
    tokenizer = EventTokenizer.fit(Csv().read(path), attributes=["Resource"])
    rows: dict[str, list[list[str]]] = {}
    for line in path.read_text().splitlines()[1:]:
        cells = line.split(",")
        rows.setdefault(cells[0], []).append(cells)
    activity = Counter(cells[1] for case in rows.values() for cells in case)
    for case in islice(Csv().read(path), 0, None, 13):
        when = [datetime.strptime(cells[3], "%Y/%m/%d %H:%M:%S.%f") for cells in rows[case.key]]
        ordered = sorted(zip(when, rows[case.key], strict=True), key=lambda pair: pair[0])  # stable
        ids = tokenizer.encode(case).ids
        assert len(ids) == len(ordered) + 1
        for event, (moment, cells) in enumerate(ordered):
            name, resource, gap, hour, weekday = tokens(tokenizer, ids[event : event + 1])[0]
            assert name == (cells[1] if activity[cells[1]] > 1 else OTHER)
            assert resource in (cells[2], OTHER)
            assert (hour, weekday) == (f"{moment.hour:02d}", WEEKDAYS[moment.weekday()])
            if event == 0:
                assert gap == ABSENT
            else:
                micros = (moment - ordered[event - 1][0]) // timedelta(microseconds=1)
                assert ids[event, 2] == sum(micros >= edge for edge in tokenizer.gaps.edges)


def masked_cells(tokenizer, ids, source, unit):
    """Cells of the source whose range holds the unit, by the definition."""
    ranges = tokenizer.units(ids)
    masked = np.zeros(ids.shape, dtype=bool)
    for position, column in np.ndindex(ids.shape):
        start, stop = ranges[position, column]
        masked[position, column] = tokenizer.fields[column].source == source and start <= unit < stop
    return masked


def changes_of(case, source, unit):
    """The case with one raw unit changed in every way that matters."""
    if source == "activity":
        for name in ("A", "B", "elsewhere", UNKNOWN):
            yield replace(case, activity=(*case.activity[:unit], name, *case.activity[unit + 1 :]))
    elif source == "time":
        for moment in (UNKNOWN_TIME, ABSENT_TIME, MONDAY, MONDAY + 5 * DAY, MONDAY + 400 * DAY + 7 * HOUR):
            time = case.time.copy()
            time[unit] = moment
            yield replace(case, time=time)
    elif source == "case:age":
        for age in ("40", "44", "1000", None, UNKNOWN):
            yield replace(case, case_attributes={"age": age})
    else:
        for value in ("x", "17", None, UNKNOWN):
            values = case.attributes[source]
            yield replace(case, attributes=case.attributes | {source: (*values[:unit], value, *values[unit + 1 :])})


def test_a_hidden_raw_value_leaves_no_trace_in_visible_cells(tokenizer):
    rng = np.random.default_rng(1)
    for _ in range(25):
        case = random_case(rng, int(rng.integers(1, 8)))
        ids = tokenizer.encode(case).ids
        for source in ("activity", "amount", "room", "time", "case:age"):
            for unit in range(1 if source == "case:age" else len(case)):
                masked = masked_cells(tokenizer, ids, source, unit)
                for other in changes_of(case, source, unit):
                    np.testing.assert_array_equal(tokenizer.encode(other).ids[~masked], ids[~masked])


def test_the_contract_of_tokenizers_is_kept(tokenizer, shared_data):
    rng = np.random.default_rng(10)
    report = check_tokenizer(tokenizer, [random_case(rng, int(rng.integers(1, 30)), f"c{i}") for i in range(60)])
    assert {"splice", "no leak"} <= set(report.checked)
    assert all(report.round_trip[name] == 1 for name in ("activity", "amount", "room", "case:age"))
    cases = list(islice(Csv(absent=("NA", "")).read(shared_data / "events/sepsis.csv"), 40))
    real = EventTokenizer.fit(cases, attributes=["crp", "lacticacid", "resource"])
    assert check_tokenizer(real, cases).round_trip["gap"] > 0.8


def test_a_timestamp_takes_both_gaps_and_the_clock_with_it(tokenizer):
    ids = tokenizer.encode(make_case([("A", i, None, None) for i in range(5)])).ids
    gap, hour, weekday = 4, 5, 6
    where = {(int(p), int(f)) for p, f in np.argwhere(masked_cells(tokenizer, ids, "time", 2))}
    assert where == {(2, gap), (3, gap), (2, hour), (2, weekday)}


def test_decoding_gives_the_same_gaps_and_attributes_again_and_time_never_runs_backwards(tokenizer):
    rng = np.random.default_rng(2)
    for _ in range(200):
        ids = tokenizer.encode(random_case(rng, int(rng.integers(1, 12)), clean=True)).ids
        case = tokenizer.decode(ids)
        again = tokenizer.encode(case).ids
        np.testing.assert_array_equal(again[:, :5], ids[:, :5])
        assert (np.diff(case.time) >= 0).all()


def test_decoding_keeps_the_clock_where_the_gaps_leave_room(tokenizer):
    case = make_case([("A", 10 * 3600, None, "x"), ("A", 4 * 86_400 + 15 * 3600, None, "x")])  # Monday 10, Friday 15
    decoded = tokenizer.decode(tokenizer.encode(case).ids)
    moments = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(t)) for t in decoded.time]
    assert [(m.weekday(), m.hour) for m in moments] == [(0, 10), (4, 15)]


def test_every_id_sequence_can_be_decoded(tokenizer):
    rng = np.random.default_rng(3)
    rows = [field.n_rows for field in tokenizer.fields]
    for length in (0, 1, 2, 30):
        for _ in range(50):
            case = tokenizer.decode(rng.integers(rows, size=(length, len(rows))).astype(np.uint8))
            assert (np.diff(case.time[case.timed]) >= 0).all()


def test_filled_values_are_written_and_nothing_else(tokenizer):
    rng = np.random.default_rng(4)
    n_predictable = [field.n_predictable for field in tokenizer.fields]
    for _ in range(300):
        case = random_case(rng, int(rng.integers(1, 10)))
        truth = tokenizer.encode(case).ids
        guess = rng.integers(n_predictable, size=truth.shape).astype(truth.dtype)
        holes = np.zeros(truth.shape, dtype=bool)
        sources = ["activity", "amount", "room", "time", "case:age"]
        for _ in range(int(rng.integers(1, 6))):
            source = sources[rng.integers(5)]
            unit = 0 if source == "case:age" else int(rng.integers(len(case)))
            holes |= masked_cells(tokenizer, truth, source, unit)
        ids = np.where(holes, guess, truth)
        filled = tokenizer.splice(case, ids, holes)
        again = tokenizer.encode(filled).ids
        clock = tokenizer.units(truth)[..., 1] <= len(case)  # `[END]` and its row are no events
        untouched = ~holes & clock
        np.testing.assert_array_equal(again[untouched], truth[untouched])
        hour = holes[: len(case), 5]
        np.testing.assert_array_equal(filled.time[~hour], case.time[~hour])
        values = holes[:, :3] & (ids[:, :3] < [f.n_tokens for f in tokenizer.fields[:3]])
        np.testing.assert_array_equal(again[:, :3][values], ids[:, :3][values])
        if (np.diff(case.time[case.timed]) >= 0).all():
            assert (np.diff(filled.time[filled.timed]) >= 0).all()


def test_nothing_filled_is_nothing_changed(tokenizer):
    case = random_case(np.random.default_rng(5), 9)
    ids = tokenizer.encode(case).ids
    assert tokenizer.splice(case, ids, np.zeros(ids.shape, dtype=bool)) == case


def clues(gaps, hours=None, weekdays=None):
    gaps = np.array(gaps, dtype=np.int64)
    none = [NO_CLUE] * len(gaps)
    return Clues(gaps, gaps // 2, gaps * 2, np.array(hours or none), np.array(weekdays or none))


@pytest.mark.parametrize(
    ("gaps", "time", "placed"),
    [
        ([0, 10, 30], [100, None, 180], [100, 120, 180]),  # 80 µs are shared as 10 : 30
        ([0, 10, 10, 20], [0, None, None, 4], [0, 1, 2, 4]),
        ([0, 0, 0, 0], [0, None, None, 30], [0, 10, 20, 30]),  # no gap says anything: evenly
        ([0, 10, 20], [100, None, None], [100, 110, 130]),  # counted on from the last known moment
        ([0, 10, 20], [None, None, 100], [70, 80, 100]),  # and back from the first
        ([0, 10, 20], [None, None, None], [None, None, None]),  # no clue which day it was
        ([0, 5, 5], [100, None, 90], [100, 100, 90]),  # the clocks disagree: it stays with the event before
    ],
)
def test_moments_between_known_ones(gaps, time, placed):
    given = np.array([UNKNOWN_TIME if t is None else t for t in time], dtype=np.int64)
    expected = [UNKNOWN_TIME if t is None else t for t in placed]
    holes = given == UNKNOWN_TIME
    got = place(clues(gaps), given, np.zeros(len(gaps), dtype=np.int32), holes)
    assert got.tolist() == expected


def test_a_filled_moment_shows_the_hour_and_weekday_on_the_wall_clock_of_its_zone():
    time = np.array([MONDAY, UNKNOWN_TIME, MONDAY + 9 * DAY], dtype=np.int64)
    offset = np.full(3, 2 * 3600, dtype=np.int32)
    days = clues([0, 3 * DAY, 6 * DAY], [NO_CLUE, 9, NO_CLUE], [NO_CLUE, 4, NO_CLUE])
    got = place(days, time, offset, np.array([False, True, False]))
    wall = datetime(1970, 1, 1) + timedelta(microseconds=int(got[1])) + timedelta(hours=2)
    assert (wall.weekday(), wall.hour) == (4, 9)
    assert (wall.year, wall.month, wall.day) == (2024, 1, 5)


def test_quantile_bins_hold_equal_counts_and_are_decoded_to_their_means():
    rng = np.random.default_rng(6)
    sample = np.round(rng.lognormal(3, 1, size=20_000), 4)
    values, counts = np.unique(sample, return_counts=True)
    bins = quantile_bins(values, counts, 16)
    index = np.searchsorted(bins.edges, sample, side="right")
    sizes = np.bincount(index)
    assert len(sizes) == 16
    assert sizes.min() > 0.99 * 1250
    assert sizes.max() < 1.01 * 1250
    np.testing.assert_allclose(bins.centres, [sample[index == i].mean() for i in range(16)])


def test_few_values_keep_a_bin_each_and_ties_share_one():
    values = np.array([0.1, 0.2, 7.0])
    bins = quantile_bins(values, np.array([3, 5, 1]), 8)
    assert bins.centres == (0.1, 0.2, 7.0)  # exactly, not a mean's last digit off
    heavy = quantile_bins(np.arange(10.0), np.array([1000, *[1] * 9]), 4)
    assert heavy.edges[0] == 1.0  # nine in ten values are 0: they have a bin to themselves
    assert len(heavy.centres) == 2


def test_a_filled_number_lies_in_its_bin_and_whole_numbers_stay_whole():
    rng = np.random.default_rng(7)
    for whole in (True, False):
        values = np.unique(rng.integers(0, 5000, 400).astype(float) if whole else rng.normal(0, 1e-3, 400))
        bins = quantile_bins(values, np.ones(len(values), dtype=np.int64), 50)
        texts = bins.texts(whole=whole)
        assert np.searchsorted(bins.edges, [float(t) for t in texts], side="right").tolist() == list(range(50))
        assert not whole or all(t.lstrip("-").isdigit() for t in texts)


def test_gap_bins_are_even_in_the_logarithm():
    gaps = np.array([-5e6, 0, 1e6, 1e7, 1e8, 1e9])
    bins = gap_bins(gaps, np.ones(6, dtype=np.int64), 3)
    np.testing.assert_allclose(bins.edges, [0, 1, 1e7, 1e8])
    np.testing.assert_allclose(bins.centres, [-5e6, 0, 1e6, 1e7, 5.5e8])


@pytest.mark.parametrize("gaps", [[], [0.0], [7.0], [-3.0], [1.0, 2.0]])
def test_logs_with_hardly_any_gaps_have_bins_all_the_same(gaps):
    bins = gap_bins(np.array(sorted(gaps)), np.ones(len(gaps), dtype=np.int64), 32)
    assert isinstance(bins, ValueBins)  # whose edges and centres increase


def test_counting_many_numbers_does_not_depend_on_their_order(monkeypatch):
    monkeypatch.setattr("maskseq_events.bins.MAX_DISTINCT", 100)
    numbers = np.random.default_rng(8).lognormal(0, 5, 3000)
    forwards, backwards = NumberCounts(), NumberCounts()
    forwards.add(numbers.tolist())
    for number in numbers[::-1].tolist():
        backwards.add([number])
    (values, counts), (others, other_counts) = forwards.sorted(), backwards.sorted()
    np.testing.assert_array_equal(values, others)
    np.testing.assert_array_equal(counts, other_counts)
    np.testing.assert_allclose(np.repeat(values, counts), np.sort(numbers), rtol=1e-3)


def fit_one(values, kinds=None, **options):
    time, offset = no_time(len(values))
    case = Case(
        key="a", activity=("x",) * len(values), time=time, offset=offset, attributes={"v": values}, kinds=kinds or {}
    )
    return EventTokenizer.fit([case], attributes=["v"], min_count=1, **options).columns[0]


def test_types_are_inferred_declared_or_told():
    numbers = [str(i) for i in range(100)]
    assert fit_one(numbers).bins is not None
    assert fit_one(numbers, categorical=["v"]).bins is None
    assert fit_one(numbers, kinds={"v": "categorical"}).bins is None
    assert fit_one([*numbers, None, UNKNOWN]).bins is not None  # absent and unknown are no values
    assert fit_one([*numbers, "n/a"]).bins is None
    assert fit_one([*numbers, "nan"]).bins is None
    assert fit_one(["1", "2", "3"]).bins is None  # a few codes
    assert fit_one(["1", "2", "3"], numeric=["v"]).bins is not None
    assert fit_one(["1", "2", "3"], kinds={"v": "numeric"}).bins is not None


def test_values_below_the_frequency_floor_are_other(tokenizer):
    case = make_case(
        [("A", 0, None, "x"), ("A", 1, None, "x"), ("A", 2, None, "x"), ("B", 3, None, "y"), ("B", 4, None, "z")]
    )
    fitted = EventTokenizer.fit([case], attributes=["room"], min_count=3)
    assert fitted.activities == ("A",)
    assert fitted.columns == (Column(name="room", values=("x",), absent=False),)
    assert [row[0] for row in tokens(fitted, fitted.encode(case).ids)] == ["A", "A", "A", OTHER, OTHER, END]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atributes": ["room"]}, "atributes"),
        ({"attributes": ["rom"]}, "'rom' never has a value.*room"),
        ({"attributes": ["case:size"]}, "case:size.*case:age"),
        ({"attributes": ["room", "room"]}, "twice"),
        ({"min_count": 0}, "min_count must be at least 1"),
        ({"min_count": 1000}, "occurs 1000 times"),
        ({"numeric": ["room"]}, "not in attributes"),
        ({"attributes": ["room"], "numeric": ["room"]}, "none of its values is a number"),
        ({"attributes": ["room"], "numeric": ["room"], "categorical": ["room"]}, "as numeric and as categorical"),
        ({"gap_bins": "many"}, "gap_bins"),
        ({"time": "maybe"}, "time"),
    ],
)
def test_wrong_options_are_named(options, message):
    case = make_case([("A", 0, "5", "x"), ("A", 1, "5", "x")])
    with pytest.raises(UsageError, match=f"(?s){message}"):
        EventTokenizer.fit([case], **options)


def test_no_events_and_no_time_are_said():
    with pytest.raises(UsageError, match="no training events"):
        EventTokenizer.fit([])
    time, offset = no_time(2)
    with pytest.raises(UsageError, match="needs timestamps"):
        EventTokenizer.fit([Case(key="a", activity=("x", "x"), time=time, offset=offset)], time=True)


def test_sessions_without_time_have_one_field(shared_data):
    tokenizer = EventTokenizer.fit(Sessions().read(shared_data / "events/hdfs_sessions_train.txt"))
    assert [field.name for field in tokenizer.fields] == ["activity"]
    counts = Counter((shared_data / "events/hdfs_sessions_train.txt").read_text().split())
    assert tokenizer.activities == tuple(sorted(counts, key=lambda key: (-counts[key], key)))
    abnormal = shared_data / "events/hdfs_sessions_abnormal.txt"
    ids = [tokenizer.encode(case).ids for case in islice(Sessions().read(abnormal), 2000)]
    keys = " ".join(abnormal.read_text().splitlines()[:2000]).split()
    assert sum(map(len, ids)) == len(keys) + 2000
    assert sum(int((each == tokenizer.fields[0].control_id(OTHER)).sum()) for each in ids) == sum(
        key not in counts for key in keys
    )


def test_static_facts_have_no_time_and_the_first_timed_event_no_gap(tokenizer):
    case = make_case([("A", "never", None, None), ("B", 3600, None, None), ("B", 7200, None, None)])
    got = tokens(tokenizer, tokenizer.encode(case).ids)
    assert [row[4:] for row in got[:2]] == [[ABSENT] * 3, [ABSENT, "01", "Mon"]]
    assert tokenizer.decode(tokenizer.encode(case).ids).timed.tolist() == [False, True, True]


def test_unknown_cells_may_not_become_an_end_or_run_backwards(tokenizer):
    case = make_case([("A", 0, "5", "x"), (UNKNOWN, None, UNKNOWN, UNKNOWN), ("B", 9, "5", "x")])
    ids = tokenizer.encode(case).ids
    legal = tokenizer.allowed(ids)
    for (position, column), allowed in zip(legal.cells, legal.allowed, strict=True):
        field = tokenizer.fields[column]
        forbidden = {field.token(i) for i in range(field.n_predictable) if not allowed[i]}
        assert forbidden == {"activity": {END}, "gap": {"backwards", ABSENT}}.get(field.name, {ABSENT})
        assert ids[position, column] == field.mask_id
    named = {tokenizer.fields[column].name for _, column in legal.cells}
    assert named == {"activity", "gap", "hour", "weekday"}
    assert tokenizer.allowed(tokenizer.encode(make_case([("A", 0, "5", "x")])).ids) is None


@pytest.mark.parametrize("end", [True, False])
def test_no_unknown_time_becomes_absent_at_either_end_of_a_case(tokenizer, end):
    """An event without time has no place between others; only the gap of the first event is absent."""
    tokenizer = replace(tokenizer, end=end)
    case = make_case([("A", None, "5", "x"), ("B", 9, "5", "x"), ("C", None, "5", "x")])
    ids = tokenizer.encode(case).ids
    ids[0, -3] = tokenizer.fields[-3].mask_id  # as where this event is hidden
    legal = tokenizer.allowed(ids)
    may_be_absent = {
        (position, tokenizer.fields[column].name): bool(allowed[tokenizer.fields[column].control_id(ABSENT)])
        for (position, column), allowed in zip(legal.cells.tolist(), legal.allowed, strict=True)
    }
    first = {(0, "gap"): True, (0, "hour"): False, (0, "weekday"): False}
    assert may_be_absent == first | {(1, "gap"): False, (2, "gap"): False, (2, "hour"): False, (2, "weekday"): False}


def patients(rng, n_cases):
    """Records of patients: static facts first, then events with times."""
    for number in range(n_cases):
        facts = [(str(rng.choice(["F", "M", "born here"])), "never", None, None) for _ in range(rng.integers(1, 4))]
        visits = random_case(rng, int(rng.integers(1, 8)), clean=True)
        when = (visits.time - MONDAY) / SECOND
        events = [(name, float(w), None, "x") for name, w in zip(visits.activity, when, strict=True)]
        yield make_case(facts + events, f"p{number}")


@pytest.mark.parametrize("end", [True, False])
def test_static_facts_keep_the_contract(end):
    records = list(patients(np.random.default_rng(3), 60))
    tokenizer = EventTokenizer.fit(records, attributes=["room"], end=end, gap_bins=8)
    assert tokenizer.static
    assert "legal" in check_tokenizer(tokenizer, records).checked
    assert not EventTokenizer.fit([record.cut(3, 20) for record in records if len(record) > 3], min_count=1).static


def test_no_fact_is_written_behind_a_known_moment():
    """As where a window of a long case does not show it."""
    tokenizer = EventTokenizer.fit(patients(np.random.default_rng(3), 60), attributes=["room"])
    case = make_case([("F", None, None, None), ("A", 0, None, "x"), ("B", None, None, "x"), ("C", 9, None, "x")])
    ids = tokenizer.encode(case).ids
    ids[[0, 2], -3:] = [field.control_id(ABSENT) for field in tokenizer.fields[-3:]]
    holes = np.zeros(ids.shape, dtype=bool)
    holes[[0, 2], -3:] = True
    assert tokenizer.splice(case, ids, holes).time.tolist() == [ABSENT_TIME, MONDAY, UNKNOWN_TIME, MONDAY + 9 * SECOND]


@pytest.mark.parametrize("seed", range(20))
def test_hidden_times_are_filled_with_facts_first_and_moments_behind(seed):
    """Whatever the model prefers; and what is true stays allowed however much of it is hidden."""
    rng = np.random.default_rng(seed)
    records = list(patients(rng, 20))
    tokenizer = EventTokenizer.fit(records, attributes=["room"], gap_bins=8, min_count=1)
    sequences = [tokenizer.encode(record).ids.astype(np.int64) for record in records]
    holes = []
    for ids in sequences:
        events = rng.random(len(ids) - 1) < rng.choice([0.3, 0.7, 1.0])
        masked = np.zeros(ids.shape, dtype=bool)
        masked[:-1, -2:] = events[:, None]
        masked[:-1, -3] = events | np.append(False, events[:-1])
        legal = tokenizer.allowed(np.where(masked, tokenizer.vocabulary.mask_ids, ids))
        if legal is not None:
            true = ids[tuple(legal.cells.T)]
            assert legal.allowed[np.arange(len(true)), true].all()
        holes.append(masked)

    @of_ids
    def undecided(sequences, cells):
        return [np.log(rng.dirichlet(np.full(max(tokenizer.vocabulary.n_outputs), 0.1), size=len(c))) for c in cells]

    fills = infill(
        undecided,
        [
            Example(each)
            for each in [
                np.where(masked, tokenizer.vocabulary.mask_ids, ids)
                for ids, masked in zip(sequences, holes, strict=True)
            ]
        ],
        holes,
        InfillConfig(temperature=1.0, samples=1),
        vocabulary=tokenizer.vocabulary,
        keys=list(range(20)),
        constraints=[[Grammar(tokenizer.allowed)]] * 20,
    )
    for ids, masked, fill in zip(sequences, holes, fills, strict=True):
        filled = ids.copy()
        filled[masked] = fill.values[0]
        absent = filled[:-1, -3:] == [field.control_id(ABSENT) for field in tokenizer.fields[-3:]]
        facts = absent[:, 1]
        assert (facts == absent[:, 2]).all()
        assert (np.diff(facts.astype(int)) <= 0).all()
        assert (absent[1:, 0] == facts[:-1]).all()


def test_the_cells_of_a_case_attribute_are_filled_alike(tokenizer):
    record = random_case(np.random.default_rng(5), 12)
    index = [column.scope for column in tokenizer.columns].index("case") + 1
    record = replace(record, case_attributes={tokenizer.columns[index - 1].name: UNKNOWN})
    ids = tokenizer.encode(record).ids
    holes = np.zeros(ids.shape, dtype=bool)
    holes[:, index] = True
    assert (ids[:, index] == tokenizer.fields[index].mask_id).all()
    n = tokenizer.fields[index].n_predictable
    rng = np.random.default_rng(0)

    @of_ids
    def undecided(sequences, cells):
        """Each cell likes another value best."""
        return [np.log(rng.dirichlet(np.full(max(tokenizer.vocabulary.n_outputs), 0.1), size=len(c))) for c in cells]

    (fill,) = infill(
        undecided,
        [Example(ids)],
        [holes],
        InfillConfig(temperature=1.0, samples=8, order="one_shot"),
        vocabulary=tokenizer.vocabulary,
        keys=[0],
        constraints=[[Grammar(tokenizer.allowed)]],
    )
    assert (fill.values == fill.values[:, :1]).all()
    assert (fill.values < n).all()
    assert len(set(fill.values[:, 0].tolist())) > 1


def test_what_is_closed_is_the_case_as_it_was_then(tokenizer):
    case = random_case(np.random.default_rng(4), 9)
    ids = tokenizer.encode(case).ids
    for n_events in range(1, 9):
        closed = tokenizer.closed(ids[: n_events + 1])
        np.testing.assert_array_equal(closed, tokenizer.encode(case.cut(0, n_events)).ids)
    endless = replace(tokenizer, end=False)
    np.testing.assert_array_equal(endless.closed(ids[:4]), ids[:4])


def test_state_and_fingerprint_survive_json(tokenizer):
    again = EventTokenizer.from_state(tokenizer.state())
    assert again == tokenizer
    assert again.fingerprint == tokenizer.fingerprint
    case = random_case(np.random.default_rng(9), 11)
    np.testing.assert_array_equal(again.encode(case).ids, tokenizer.encode(case).ids)


def test_attributes_named_like_the_fields_of_time_keep_apart():
    time, offset = np.array([MONDAY, MONDAY + MINUTE]), np.zeros(2, dtype=np.int32)
    case = Case(key="a", activity=("x", "x"), time=time, offset=offset, attributes={"gap": ("p", "p")})
    fitted = EventTokenizer.fit([case], attributes=["gap"])
    assert [field.name for field in fitted.fields] == ["activity", "gap (attribute)", "gap", "hour", "weekday"]
