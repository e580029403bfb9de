"""Models on disk: safetensors and JSON only, sealed by digests, so that damage is named and never loaded.

A checkpoint folder holds `model.safetensors`, `config.json` (the encoder's), `tokenizer.json`, whatever the trainer
adds, and `digests.json`, written last: a folder without it was interrupted. A run folder holds
`checkpoints/step_N/`, and two text files: `latest` has the name of the newest of them, `best` that of the best one.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from maskseq.contract.identity import another, checked_form, difference, in_fields
from maskseq.contract.renamed import of_encoder
from maskseq.errors import DataError, UsageError, first_problem
from maskseq.model.config import EncoderConfig
from maskseq.model.encoder import Encoder
from maskseq.plugins import Trust, tokenizer_from_json, tokenizer_to_json
from maskseq.storage.folder import inside
from maskseq.storage.outputs import sync
from maskseq.storage.run_folder import CONFIG, DIGESTS, MODEL, TOKENIZER, CheckpointFolder, RunFolder
from maskseq.storage.standard_json import to_json
from maskseq.tokenizer import Tokenizer

FORMAT = 1
Shapes = dict[str, tuple[int, ...]]


def save_model(folder: Path, model: Encoder, tokenizer: Tokenizer[Any]) -> None:
    """Write model and tokenizer into `folder` and seal it, with whatever else is in it."""
    _same_vocabulary(model.config, tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    saved_tokenizer = tokenizer_to_json(tokenizer)
    config = {
        "format": FORMAT,
        "encoder": TypeAdapter(EncoderConfig).dump_python(model.config, mode="json"),
        "tokenizer": saved_tokenizer["fingerprint"],
    }
    write_tensors(folder / MODEL, {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_json(folder / CONFIG, config)
    write_json(folder / TOKENIZER, saved_tokenizer)
    seal(folder)


def find_checkpoint(folder: Path, warn: Callable[[str], object] = warnings.warn) -> Path:
    """The folder itself if it is a sound checkpoint; of a run folder, its best one.

    Where a run has not chosen one, or that is damaged, it is the newest sound one.
    """
    if not RunFolder(folder).is_run:
        check(folder)
        return folder
    best = RunFolder(folder).best
    if best.exists():
        try:
            chosen = named_checkpoint(best)
            if chosen is None:
                raise DataError(best, "does not name a checkpoint", code="damaged-file")
            check(chosen)
            return chosen
        except DataError as error:
            warn(f"the best checkpoint cannot be opened ({error}); taking the newest sound one")
    return newest_checkpoint(folder, warn)


def named_checkpoint(file: Path) -> Path | None:
    """The checkpoint that `latest` or `best` names, if it is there."""
    try:
        name = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return next((folder for folder in checkpoints(file.parent) if folder.name == name), None)


def read_model(
    folder: Path, *, trust_code: Trust = False, known: Tokenizer[Any] | None = None
) -> tuple[Encoder, Tokenizer[Any]]:
    """The model and tokenizer of a checkpoint folder that was found sound.

    `known` is a tokenizer that is here already: where it is the one that was saved, no code is loaded. The encoder is
    made only once the weights are known to be those of one of its size.
    """
    config, fingerprint = _read_config(folder / CONFIG)
    saved_tokenizer = read_json(folder / TOKENIZER)
    if saved_tokenizer.get("fingerprint") != fingerprint:
        raise DataError(
            folder / TOKENIZER,
            f"is not the tokenizer that {CONFIG} names: they come from two checkpoints",
            code="other-tokenizer",
        )
    tokenizer = tokenizer_from_json(saved_tokenizer, trust_code=trust_code, known=known, file=folder / TOKENIZER)
    _same_vocabulary(config, tokenizer)
    _check_size(config, folder / MODEL)
    model = Encoder(config, seed=None)
    fill(model, read_tensors(folder / MODEL), folder / MODEL)
    return model, tokenizer


def check_tokenizer(folder: Path, tokenizer: Tokenizer[Any], *, state: bool = True) -> None:
    """`UsageError` unless the ids of a checkpoint mean to this tokenizer what they meant when it was written.

    `state`: and its options are the same.
    """
    file = folder / TOKENIZER
    saved = checked_form(read_json(file), file)
    if other := difference(saved, tokenizer) if state else in_fields(saved, tokenizer):
        raise another(saved["name"], other, file)


def _check_size(config: EncoderConfig, source: Path) -> None:
    """`DataError` unless the weights are those of such an encoder. Nothing of their size is allocated."""
    given = read_shapes(source)
    if config.n_layers > len(given):
        raise DataError(
            source,
            f"holds {len(given)} tensors, too few for the {config.n_layers:,} layers of {CONFIG}",
            code="damaged-file",
        )
    try:
        with torch.device("meta"):
            expected = {name: tuple(value.shape) for name, value in Encoder(config, seed=None).state_dict().items()}
    except (RuntimeError, ValueError, OverflowError, MemoryError) as error:
        problem = str(error).partition("\n")[0]
        raise DataError(
            source.with_name(CONFIG), f"its sizes are not those of an encoder ({problem})", code="damaged-file"
        ) from error
    compare(expected, given, source)


def newest_checkpoint(run: Path, warn: Callable[[str], object]) -> Path:
    """The checkpoint that `latest` names, or the newest older one if that is damaged, of which `warn` is called."""
    steps, latest = checkpoints(run)[::-1], RunFolder(run).latest
    named = named_checkpoint(latest)
    if named is not None:
        steps = [folder for folder in steps if _step(folder) <= _step(named)]
    else:
        warn(f"{latest} does not name a checkpoint; taking the newest sound one")
    problems = []
    for folder in steps:
        try:
            check(folder)
        except DataError as error:
            problems.append(str(error))
            continue
        if problems:
            warn(f"damaged: {'; '.join(problems)}. Going back to {folder.name}")
        return folder
    raise DataError(run, "; ".join(["has no sound checkpoint", *problems]), code="damaged-file")


def checkpoints(run: Path) -> list[Path]:
    """All checkpoint folders of a run, in the order of their steps."""
    return sorted((path for path in RunFolder(run).checkpoints.glob("step_*") if _step(path) >= 0), key=_step)


def weights_digest(checkpoint: Path) -> str:
    """SHA-256 of a sealed checkpoint's weights, as the seal has it: what is fitted to them names them by it."""
    return str(read_json(CheckpointFolder(checkpoint).digests).get(MODEL))


def seal(folder: Path) -> None:
    """Flush every file below `folder` to disk, then write their SHA-256 digests into `digests.json`."""
    names = _files(folder)
    digests = {name: _digest(folder / name) for name in names}
    for path in [*(folder / name for name in names), *(p for p in folder.rglob("*") if p.is_dir())]:
        sync(path)
    write_json(folder / DIGESTS, digests)
    sync(folder)


def check(folder: Path) -> None:
    """`DataError` unless every sealed file is there, byte for byte."""
    if not folder.is_dir():
        raise DataError(folder, "there is no such checkpoint folder", code="missing-file")
    if not (folder / DIGESTS).exists():
        found = ", ".join(_files(folder)) or "nothing"
        raise DataError(
            folder,
            f"is not a finished checkpoint: it has no {DIGESTS} (the last file to be written), only {found}",
            code="damaged-file",
        )
    for name, digest in read_json(folder / DIGESTS).items():
        inside(folder, name)
        if not (folder / name).is_file():
            raise DataError(folder / name, "is missing", code="damaged-file")
        if _digest(folder / name) != digest:
            raise DataError(
                folder / name,
                f"is cut short or changed since it was written ({DIGESTS} disagrees)",
                code="damaged-file",
            )


def fill(model: Encoder, tensors: dict[str, torch.Tensor], source: Path) -> None:
    """Copy `tensors` into the model; `DataError` says which are missing, unknown or of another shape."""
    expected, given = (
        {name: tuple(value.shape) for name, value in each.items()} for each in (model.state_dict(), tensors)
    )
    compare(expected, given, source)
    model.load_state_dict(tensors)


def compare(expected: Shapes, given: Shapes, source: Path) -> None:
    """`DataError` says which tensors are missing, unknown or of another shape."""
    missing = sorted(set(expected) - set(given))
    unknown = sorted(set(given) - set(expected))
    if missing or unknown:
        parts = [f"lacks {few(missing)}"] * bool(missing) + [f"has unexpected {few(unknown)}"] * bool(unknown)
        raise DataError(source, f"does not fit {CONFIG}: it {' and '.join(parts)}", code="damaged-file")
    for name, shape in expected.items():
        if shape != given[name]:
            raise DataError(
                source, f"is {given[name]} but {CONFIG} says {shape}", place=f"tensor {name}", code="damaged-file"
            )


def read_shapes(path: Path) -> Shapes:
    """The shapes of all tensors of a safetensors file, from its header."""
    with _safetensors(path), safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (it is not a dict)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file."""
    with _safetensors(path):
        return load_file(path)


@contextmanager
def _safetensors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(path, "is missing", code="damaged-file") from None
    except (SafetensorError, OSError) as error:
        raise DataError(path, f"is not a whole safetensors file ({error})", code="damaged-file") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "is missing", code="damaged-file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"is not readable JSON ({error})", code="damaged-file") from error
    if not isinstance(value, dict):
        raise DataError(path, "should hold one JSON object", code="damaged-file")
    return value


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file; an `OSError` where the system refuses it, as for other files."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        code = int(found[1]) if found else None
        raise OSError(code, os.strerror(code) if code else str(error), str(path)) from error


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object and flush it to disk."""
    with path.open("w", encoding="utf-8") as file:
        file.write(to_json(value, lossless=True, ascii=False, indent=1))
        file.flush()
        os.fsync(file.fileno())


def _read_config(path: Path) -> tuple[EncoderConfig, str]:
    saved = read_json(path)
    if saved.get("format") != FORMAT:
        raise DataError(
            path,
            f"has format {saved.get('format')!r}; this version of maskseq reads format {FORMAT}",
            code="damaged-file",
        )
    try:
        return TypeAdapter(EncoderConfig).validate_python(of_encoder(saved["encoder"])), str(saved["tokenizer"])
    except KeyError as error:
        raise DataError(path, f"lacks the key {error}", code="damaged-file") from None
    except ValidationError as error:
        where, problem = first_problem(error, "encoder")
        raise DataError(path, problem[:300], place=where, code="damaged-file") from None


def _same_vocabulary(config: EncoderConfig, tokenizer: Tokenizer[Any]) -> None:
    if config.vocabulary != tokenizer.vocabulary:
        raise UsageError(
            f"the encoder was built for fields {_rows(config.vocabulary)}, "
            f"but tokenizer {type(tokenizer).__name__} has {_rows(tokenizer.vocabulary)}",
            code="other-tokenizer",
        )


def _rows(vocabulary: Any) -> str:
    return ", ".join(f"{name} ({n} ids)" for name, n in zip(vocabulary.names, vocabulary.n_rows, strict=True))


def few(names: list[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _step(folder: Path) -> int:
    """N of `step_N`; −1 for anything else, such as somebody's `step_N.tmp`."""
    number = folder.name.removeprefix("step_")
    return int(number) if number.isdecimal() else -1


def _files(folder: Path) -> list[str]:
    """All files below `folder` except the seal itself, as relative names."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != DIGESTS)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
