"""`maskseq init`: what it says of real files is what is known of them, and the recipe that it writes runs as it is."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import EXAMPLES
from typer.testing import CliRunner, Result

from maskseq import plugins
from maskseq.apps import init as starter
from maskseq.cli import app
from maskseq.errors import UsageError
from maskseq.storage.toml_text import toml_value

EVENTS = "\n".join(
    ["case;activity;time;clerk"]
    + [f"{c};{a};2024-01-{1 + c % 28:02d} 0{i}:00:00;clerk {c % 3}" for c in range(60) for i, a in enumerate("abc")]
)


def maskseq(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def begun(*files: Path, folder: Path, options: tuple[str, ...] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `init` says of files, and its recipe as a table."""
    recipe = folder / "recipe.toml"
    result = maskseq("init", *files, "-o", recipe, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), tomllib.loads(recipe.read_text())


def trained(recipe: Path) -> float:
    """The loss of the last step of a very short training run."""
    short = ("training.tokens=3000", "training.validation_rows=1", "data.workers=1")
    alone = ("blend=false", "calibrate=false", "training.comparison_cells=0")  # which other tests are about
    options = [part for each in (*short, *alone) for part in ("--set", each)]
    result = maskseq("pretrain", recipe, "-o", recipe.parent / "run", "--json", *options)
    assert result.exit_code == 0, result.output
    steps = [e for e in map(json.loads, result.stdout.splitlines()) if e["event"] == "Step"]
    return float(steps[-1]["scores"]["all"]["loss"])


def test_what_r_writes_for_no_value_is_none_in_attributes_only(tmp_path: Path) -> None:
    """A case and an activity may be called NA; between numbers it is no value, and the numbers are numbers."""
    rows = ["case,activity,time,crp,icu,who"]
    for c in range(60):
        case = "NA" if c == 7 else f"c{c}"
        rows += [f"{case},{a},2024-01-{1 + c % 28:02d} 0{i}:00:00,{'NA' if i else c + 0.5},{'NA' if i else 'true'},NA"
                 for i, a in enumerate(["in", "NA", "out"])]  # fmt: skip
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    reported, recipe = begun(tmp_path / "log.csv", folder=tmp_path)
    assert recipe["data"]["format_options"]["absent"] == ["NA", ""]
    assert "'NA' is taken for none" in reported["files"]["log.csv"]
    assert reported["content"]["attribute crp"].startswith("numeric, 0.5 to 59.5, 66.7% empty")
    assert reported["content"]["attribute who"] == "always empty"
    assert recipe["tokenizer"]["numeric"] == ["crp"]
    assert reported["records"]["looked at"] == "all 60 records, 180 raw units"
    assert "'NA'" in reported["content"]["activities"]


def test_an_attribute_of_cases_is_a_field_though_all_cases_begin_alike(tmp_path: Path) -> None:
    rows = ["case,activity,time,case:kind,word"]
    rows += [f"c{c},{a},2024-01-{1 + c % 28:02d} 0{i}:00:00,{'xyz'[c % 3]},{a}{a}" for c in range(60)
             for i, a in enumerate("abc")]  # fmt: skip
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    reported, recipe = begun(tmp_path / "log.csv", folder=tmp_path)
    assert reported["content"]["attribute case:kind"] == "categorical, 3 values"
    assert reported["content"]["attribute word"] == "left out: each value belongs to one activity, which it would tell"
    assert recipe["tokenizer"]["attributes"] == ["case:kind"]


def test_the_table_of_an_office_is_understood(tmp_path: Path) -> None:
    """German names, dates, decimal commas and the encoding of Excel; who did it is no activity."""
    rows = ["Fallnummer;Vorgang;Zeitstempel;Betrag;Bearbeiter"]
    for c in range(60):
        amount = f"{c}.123,{c:02d}" if c else "123,00"
        rows += [f"{1000 + c};{a};{1 + c % 28:02d}.03.2024 0{i}:{c:02d};{amount};{['Müller', 'Weiß'][c % 2]}"
                 for i, a in enumerate(["Eingang", "Prüfung", "Abschluß"])]  # fmt: skip
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n", encoding="cp1252")
    reported, recipe = begun(tmp_path / "log.csv", folder=tmp_path)
    assert recipe["data"]["format_options"] == {
        "case": "Fallnummer", "activity": "Vorgang", "time": "Zeitstempel", "time_layout": "%d.%m.%Y %H:%M",
        "decimal": ",", "encoding": "cp1252",
    }  # fmt: skip
    assert recipe["tokenizer"]["attributes"] == ["Betrag", "Bearbeiter"]
    assert reported["content"]["attribute Betrag"] == "numeric, 123 to 59123.6"
    assert "'Prüfung'" in reported["content"]["activities"]


def test_when_an_event_began_becomes_its_duration(tmp_path: Path) -> None:
    rows = ["case,activity,start_time,end_time"]
    rows += [f"c{c},{a},2024-03-01T0{i}:00:00,2024-03-01T0{i}:{c % 60:02d}:00" for c in range(60)
             for i, a in enumerate("abc")]  # fmt: skip
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    reported, recipe = begun(tmp_path / "log.csv", folder=tmp_path)
    assert recipe["data"]["format_options"] == {"start": "start_time"}
    assert recipe["tokenizer"]["numeric"] == ["duration"]
    assert reported["content"]["attribute duration"] == "numeric, 0 to 3540"


def test_what_a_format_must_be_told_is_said_as_it_is_typed(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("n,what\n1,a\n2,b\n")
    result = maskseq("init", tmp_path / "log.csv", "-o", tmp_path / "x.toml", "--format", "event-csv")
    assert result.exit_code == 3
    assert "hint: here: --set data.format_options.case=VALUE" in result.output


def test_plug_ins_whose_packages_are_missing_do_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a `pip install` without extras. What is missing is said where it may be what a file needs."""
    load = plugins.load

    def missing(group: plugins.Group, name: str, **options: Any) -> Any:
        if name in ("bpe", "event-parquet", "meds", "signal-parquet", "table"):
            raise UsageError(f"{name} cannot be imported")
        return load(group, name, **options)

    monkeypatch.setattr(plugins, "load", missing)
    (tmp_path / "log.csv").write_text(EVENTS)
    _, recipe = begun(tmp_path / "log.csv", folder=tmp_path)
    assert recipe["tokenizer"]["name"] == "event"
    (tmp_path / "x").write_bytes(b"PAR1\0")
    result = maskseq("init", tmp_path / "x", "-o", tmp_path / "y.toml")
    assert result.exit_code == 2
    assert "event-parquet cannot be imported" in result.output


def test_samples_of_a_wfdb_record_say_which_file_to_give(tmp_path: Path) -> None:
    EXAMPLES["wfdb"].lay(tmp_path)
    samples = next(path for path in tmp_path.iterdir() if path.suffix == ".dat")
    result = maskseq("init", samples, "-o", tmp_path / "recipe.toml")
    assert result.exit_code == 3
    assert "give its header, r.hea" in result.output


@pytest.mark.parametrize(
    ("name", "format", "tokenizer"),
    [
        ("lambda_virus.fa.gz", "fasta", "nucleotide"),
        ("apache_access.log.gz", "textlog", "event"),
        ("co2.csv", "signal-csv", "quantize"),
    ],
)
def test_a_first_recipe_of_a_shipped_sample_trains(
    name: str, format: str, tokenizer: str, samples: Path, tmp_path: Path
) -> None:
    requested = ("--yes",) if format == "textlog" else ()  # most visits are a single request
    _, recipe = begun(samples / name, folder=tmp_path, options=requested)
    assert recipe["data"]["format"] == format
    assert recipe["tokenizer"]["name"] == tokenizer
    dry = maskseq("pretrain", tmp_path / "recipe.toml", "--dry-run", "--json", "-o", tmp_path / "none")
    assert dry.exit_code == 0, dry.output
    facts = json.loads(dry.stdout)
    assert facts["data"]["validation tokens"] > 0
    assert facts["data"]["rows an epoch"] >= 4
    assert np.isfinite(trained(tmp_path / "recipe.toml"))


REAL = [  # what PROVENANCE.md and the publishers say of them
    ("genomics/mirbase_hairpin.fa.gz", "fasta", {"letters": "RNA"}, None),
    ("genomics/ERR1163317_miseq_sample.fq.gz", "fastq", {}, "all 1,000 records, 234,066 raw units"),
    ("genomics/GUE/prom_300_tata/dev.csv", "sequence-table", {"letters": "DNA"}, "all 613 records, 183,900 raw units"),
    ("genomics/human_TATA_promoters_EPDnew.txt", "sequence-lines", {"letters": "DNA"}, None),
    pytest.param("events/helpdesk.xes.gz", "xes", {}, "all 4,580 records, 21,348 raw units", marks=pytest.mark.soak),
    ("events/helpdesk_full.csv", "event-csv", {}, "all 4,580 records, 21,348 raw units"),
    pytest.param(
        *("events/helpdesk_tax2017_ids.csv", "event-csv", {}, "all 3,804 records, 13,710 raw units"),
        marks=pytest.mark.soak,
    ),
    pytest.param("events/sepsis.csv", "event-csv", {}, "all 1,050 records, 15,214 raw units", marks=pytest.mark.soak),
    ("events/hdfs_sessions_train.txt", "sessions", {}, "all 4,855 records, 95,125 raw units"),
    ("events/loghub/BGL_2k.log", "textlog", {}, "all 20 records, 2,000 raw units"),
    ("signals/ETTh1.csv", "signal-csv", {"period": "24 steps", "channels": "7"}, "all 1 records, 17,420 raw units"),
    ("signals/wfdb/s0010_re.hea", "wfdb", {"samples a second": "1000", "channels": "15"}, None),
    ("signals/mne_test.edf", "edf", {"samples a second": "512"}, None),
    ("signals/ucr/BasicMotions_TRAIN.ts", "ts", {"channels": "6"}, "all 40 records, 4,000 raw units"),
    ("signals/ucr/ECG200_TRAIN.txt", "ucr", {"channels": "1"}, "all 100 records, 9,600 raw units"),
]
ASKED = ("events/loghub/BGL_2k.log",)
"""Most lines are the only one of their node."""
TRAINED = ("events/loghub/BGL_2k.log", "signals/ucr/BasicMotions_TRAIN.ts", "genomics/GUE/prom_300_tata/dev.csv")


@pytest.mark.filterwarnings("ignore:channel.*quantile bins")
@pytest.mark.parametrize(("name", "format", "content", "looked_at"), REAL)
def test_real_files_are_recognized(
    name: str, format: str, content: dict[str, str], looked_at: str | None, shared_data: Path, tmp_path: Path
) -> None:
    found, recipe = begun(shared_data / name, folder=tmp_path, options=("--yes",) if name in ASKED else ())
    assert recipe["data"]["format"] == format
    assert content.items() <= found["content"].items()
    assert looked_at in (None, found["records"]["looked at"])
    if name in TRAINED:
        assert np.isfinite(trained(tmp_path / "recipe.toml"))


@pytest.mark.soak
@pytest.mark.parametrize(
    "name",
    [getattr(each, "values", each)[0] for each in REAL] + ["events/bpic2012.xes.gz", "signals/wfdb/100.hea"],
)
def test_first_recipes_of_all_real_files_train(name: str, shared_data: Path, tmp_path: Path) -> None:
    begun(shared_data / name, folder=tmp_path, options=("--yes",) if name in ASKED else ())
    assert np.isfinite(trained(tmp_path / "recipe.toml"))


def test_a_csv_is_events_signals_or_sequences_by_its_columns(tmp_path: Path) -> None:
    tables = {
        "event-csv": EVENTS,
        "signal-csv": "when,level\n" + "\n".join(f"2024-01-01 {h:02d}:00:00,{h * h % 7}" for h in range(24)),
        "sequence-table": "id,promoter,class\n" + "\n".join(f"{i},{'ACGT' * 9},{i % 2}" for i in range(30)),
    }
    for format, text in tables.items():
        folder = tmp_path / format
        folder.mkdir()
        (folder / "table.csv").write_text(text)
        found, recipe = begun(folder / "table.csv", folder=folder)
        assert recipe["data"]["format"] == format
        assert format in found["files"]["table.csv"]
    assert recipe["data"]["format_options"] == {"column": "promoter"}


def test_the_user_knows_better(tmp_path: Path) -> None:
    """A log that is a signal if the user says so, and a column that is not what it is taken for."""
    path = tmp_path / "log.csv"
    path.write_text(
        "case,event,seen,value\n" + "\n".join(f"{i // 4},{i % 4},2024-01-01 00:00:{i},{i}" for i in range(60))
    )
    _, recipe = begun(path, folder=tmp_path)
    assert recipe["data"]["format"] == "event-csv"
    (tmp_path / "recipe.toml").unlink()
    options = ("--format", "signal-csv", "--set", "data.format_options.time=seen", "--set", "tokenizer.bins=8")
    _, recipe = begun(path, folder=tmp_path, options=options)
    assert recipe["data"]["format"] == "signal-csv"
    assert recipe["data"]["format_options"]["time"] == "seen"
    assert recipe["tokenizer"]["bins"] == 8


def test_columns_of_unusual_names_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [
        f"{h:02d}.02.2024 10:{h:02d}:00,u{c},{a}" for c in range(20) for h, a in enumerate(("in", "buy", "out"), 20)
    ]
    path.write_text("moment,who,what happened\n" + "\n".join(rows))
    found, recipe = begun(path, folder=tmp_path)
    assert recipe["data"]["format_options"] == {
        "case": "who",
        "activity": "what happened",
        "time": "moment",
        "time_layout": "%d.%m.%Y %H:%M:%S",
    }
    assert "'who' is taken for the case" in found["files"]["log.csv"]
    assert found["records"]["lengths"] == "3 to 3, median 3"


def test_attributes_that_would_tell_what_is_hidden_are_left_out(tmp_path: Path) -> None:
    """A column of ids, a constant, a copy, one that goes with the activity, and the name of the whole variant."""
    rng = np.random.default_rng(1)
    lines = ["case,activity,time,id,site,clerk,clerk again,code,variant,amount"]
    for case in range(100):
        for step, activity in enumerate(rng.choice(["get", "put", "end"], size=4)):
            clerk, amount = rng.integers(5), rng.integers(10_000) / 100
            cells = [case, activity, f"2024-01-01 {case // 60:02d}:{case % 60:02d}:{step:02d}", len(lines), "Rome"]
            lines.append(",".join(map(str, [*cells, f"c{clerk}", f"k{clerk}", activity[0], f"v{case % 9}", amount])))
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines))
    found, recipe = begun(path, folder=tmp_path)
    assert set(recipe["tokenizer"]["attributes"]) == {"clerk", "amount"}
    assert recipe["tokenizer"]["numeric"] == ["amount"]
    assert "as 'clerk'" in found["content"]["attribute clerk again"]
    assert "belongs to one activity" in found["content"]["attribute code"]


def test_strange_names_of_columns_and_files_break_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / 'a "b"\n#c.csv'
    path.write_text('time,"le\tvel ""1"""\n' + "\n".join(f"{t},{t * t % 11}" for t in range(64)))
    _, recipe = begun(path, folder=tmp_path, options=("--format", "signal-csv", "--set", "tokenizer.bins=4"))
    assert recipe["data"]["files"] == [path.name]


def test_proteins_are_not_taken_for_dna(tmp_path: Path) -> None:
    path = tmp_path / "globin.fa"
    path.write_text(
        ">HBA\nMVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALTNAVAHVDDMPNALSALSDLHAHKLR\n"
    )
    _, recipe = begun(path, folder=tmp_path)
    assert recipe["tokenizer"]["name"] == "protein"


@pytest.mark.parametrize("period", [12, 50])
def test_the_period_of_a_signal_is_found(period: int, tmp_path: Path) -> None:
    """Twice the period fits as well, and must not be taken for it."""
    time = np.arange(4000)
    noise = np.random.default_rng(period).normal(0, 0.05, len(time))
    np.save(tmp_path / "wave.npy", np.sin(2 * np.pi * time / period) + noise)
    found, recipe = begun(tmp_path / "wave.npy", folder=tmp_path)
    assert abs(int(found["content"]["period"].split()[0]) - period) <= 1
    assert recipe["packing"]["context"] >= 4 * period
    found_period = int(found["content"]["period"].split()[0])
    assert recipe["model"]["linear_prior"]["distances"] == sorted([1, 2, 3, 4, 6, 8, found_period])


def test_many_channels_are_predicted_from_fewer_steps(tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.random.default_rng(0).normal(size=(500, 20)).cumsum(axis=0))
    _, recipe = begun(tmp_path / "many.npy", folder=tmp_path)
    assert recipe["model"]["linear_prior"]["distances"] == [1, 2]  # 20 channels, 5 places: 100 numbers


def test_no_more_than_a_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskseq.apps.init_sample.SAMPLE_UNITS", 1000)
    path = tmp_path / "long.fa"
    broken = ">broken\nACG\x01T\n"
    path.write_text("".join(f">r{i}\n{'ACGT' * 25}\n" for i in range(40)) + broken)
    found, _ = begun(path, folder=tmp_path)
    assert found["records"]["looked at"] == "the first 10 records, 1,000 raw units"


def test_several_files_become_one_recipe_wherever_it_lies(samples: Path, tmp_path: Path) -> None:
    for name in ("a.fa", "b.fa"):
        bases = "".join(np.random.default_rng(ord(name[0])).choice(list("ACGT"), size=1600))
        (tmp_path / name).write_text(f">{name}\n{bases}\n")
    (tmp_path / "recipes").mkdir()
    found, recipe = begun(tmp_path / "a.fa", tmp_path / "b.fa", folder=tmp_path / "recipes")
    assert recipe["data"]["files"] == ["../a.fa", "../b.fa"]
    assert found["records"]["looked at"] == "all 2 records, 3,200 raw units"
    assert np.isfinite(trained(tmp_path / "recipes" / "recipe.toml"))


def test_what_cannot_be_done_is_refused_and_leaves_nothing(samples: Path, tmp_path: Path) -> None:
    recipe, text, gap = tmp_path / "recipe.toml", tmp_path / "notes.xyz", tmp_path / "gap.fa"
    text.write_text("a few words\n")
    gap.write_text(">aligned\nACGTACGTACGT-ACGTACGT\n")
    refused = {
        2: [(text,), (samples / "co2.csv", samples / "lambda_virus.fa.gz")],
        3: [(tmp_path / "missing.fa",), (gap,)],
    }
    for code, cases in refused.items():
        for files in cases:
            result = maskseq("init", *files, "-o", recipe)
            assert result.exit_code == code, result.output
            assert not recipe.exists()
    recipe.write_text("mine")
    result = maskseq("init", samples / "co2.csv", "-o", recipe)
    assert result.exit_code == 2
    assert recipe.read_text() == "mine"
    with pytest.raises(UsageError, match="is a section"):
        starter.init([samples / "co2.csv"], tmp_path / "other.toml", overrides=["data.format_options=3"])
    with pytest.raises(UsageError, match="no folder"):
        starter.init([gap], tmp_path / "nowhere" / "r.toml")


VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z_]{1,5}", fullmatch=True), inner),
    max_leaves=8,
)


@settings(max_examples=40)
@given(VALUES)
def test_values_come_back_from_toml(value: Any) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value
