"""What older recipes, tokenizers and folders call by another name: the one table, and what is read through it.

Identities of runs are taken over today's names, with what was left out written out: so neither a new name nor
an option that came later, at its default, makes a run another one.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

RECIPE: Mapping[str, str] = {
    "data.split.validation": "data.split.selection",
    "batch": "packing",
    "model.periods": "model.phase_embeddings.periods",
    "model.neighbours": "model.ngram_embeddings.contexts",
    "model.context_table": "model.ngram_prior.depth",
    "model.waves": "model.ordinal_basis.cosines",
    "model.linear_context": "model.linear_prior.distances",
}
"""Today's name of a key or a section of recipes by the older one, both with all sections that they are in. Of a section
that was renamed, older keys are given under its name of today."""
ADDED: Mapping[str, Any] = {}
"""What a recipe that lacks a key means by that, where it is not the key's default, by today's `section.key`."""
STATE: Mapping[str, Mapping[str, str]] = {}
"""For a tokenizer, by the name of its entry point, today's names of its options by the older ones."""
FOLDERS: Mapping[str, tuple[str, ...]] = {}
"""Older names of what lies in a run folder, by today's."""
CLASSES: Mapping[str, tuple[str, str]] = {
    "nucleotide": ("maskseq_genomics.nucleotide", "NucleotideTokenizer"),
    "kmer": ("maskseq_genomics.kmer", "KmerTokenizer"),
    "bpe": ("maskseq_genomics.bpe", "BpeTokenizer"),
    "codon": ("maskseq_genomics.codon", "CodonTokenizer"),
    "protein": ("maskseq_genomics.protein", "ProteinTokenizer"),
    "event": ("maskseq_events.tokenizer", "EventTokenizer"),
    "quantize": ("maskseq_signals.tokenizer", "QuantizeTokenizer"),
    "quantize-patches": ("maskseq_signals.patches", "PatchTokenizer"),
    "quantize-differences": ("maskseq_signals.differences", "DifferenceTokenizer"),
}
"""Module and name of the built-in tokenizers as they were when folders knew tokenizers by them. Never changed."""


def of_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe under today's names. A key that is there under both keeps what today's says."""
    found = _copied(recipe)
    for old, new in RECIPE.items():
        section, _, key = old.rpartition(".")
        holder = _at(found, section)
        if isinstance(holder, dict) and key in holder:
            _put(found, new, holder.pop(key))
    return found


def of_encoder(switches: Mapping[str, Any]) -> dict[str, Any]:
    """The switches of an encoder, which are those of `[model]`, under today's names."""
    found: dict[str, Any] = of_recipe({"model": switches})["model"]
    return found


def key_today(key: str) -> str:
    """Today's name of `section.key`."""
    for old, new in RECIPE.items():
        if key == old or key.startswith(f"{old}."):
            key = new + key.removeprefix(old)
    return key


def older_keys(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Today's names of what a recipe has under older ones, by these."""
    return {old: new for old, new in RECIPE.items() if _has(recipe, old)}


def twice(recipe: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first key that a recipe has under an older name as well as under today's: both names."""
    return next(((old, new) for old, new in older_keys(recipe).items() if _has(recipe, new)), None)


def with_added(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A stored recipe under today's names, with what it means by the keys that were added since."""
    found = of_recipe(recipe)
    for key, value in ADDED.items():
        _put(found, key, value)
    return found


def of_state(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the tokenizer `name` under today's names."""
    names = STATE.get(name, {})
    return {names.get(key, key): value for key, value in state.items()}


def in_folder(folder: Path, name: str) -> Path:
    """The path of `name` in a folder: under an older name where it lies under that."""
    older = (folder / old for old in FOLDERS.get(name, ()))
    return next((path for path in older if path.exists() and not (folder / name).exists()), folder / name)


def _at(table: Any, section: str) -> Any:
    """The table of a section, with all sections that it is in; None where there is none."""
    for part in section.split(".") if section else ():
        table = table.get(part) if isinstance(table, Mapping) else None
    return table


def _has(recipe: Mapping[str, Any], key: str) -> bool:
    section, _, last = key.rpartition(".")
    holder = _at(recipe, section)
    return isinstance(holder, Mapping) and last in holder


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):  # a value in place of a section, which whoever validates the recipe refuses
            return
        table = inner
    table.setdefault(last, value)


def _copied(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(each) if isinstance(each, Mapping) else each for key, each in value.items()}


MODULES: Mapping[str, str] = {
    "maskseq.model.next_head": "maskseq.model.head",
    "maskseq.names": "maskseq.formats",
    "maskseq.outputs": "maskseq.storage.outputs",
    "maskseq.units": "maskseq.masking.units",
    "maskseq.ranges": "maskseq.infill.ranges",
    "maskseq.rules": "maskseq.infill.rules",
    "maskseq.run": "maskseq.trained",
    "maskseq.commands": "maskseq.apps.pretrain",
    "maskseq.data": "maskseq.corpus",
    "maskseq.data.corpus": "maskseq.corpus.reader",
    "maskseq.data.batches": "maskseq.packing.rows",
    "maskseq.inference": "maskseq.predict",
    "maskseq.inference.fill": "maskseq.predict.protocol",
    "maskseq.inference.infill": "maskseq.infill.sampler",
    "maskseq.inference.predict": "maskseq.predict.encoder",
}
"""Today's module by the one of 0.1.0, for those that plug-ins and scripts import. They go with 0.4.0."""


class MovedModules(MetaPathFinder, Loader):
    """Imports of modules by their names of before, with a `DeprecationWarning`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MODULES[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run under its own name, which it keeps."""
        spec = module.__spec__
        module.__spec__ = spec.loader_state if spec else None


def older_names(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose attributes had other names, or were in it: `{old: "module.new"}`."""

    def found(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {names[name]}", DeprecationWarning, stacklevel=2)
        home, _, new = names[name].rpartition(".")
        return getattr(import_module(home), new)

    return found


def read_moved_modules() -> None:
    """Let older plug-ins import what has moved since."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
