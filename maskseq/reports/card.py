"""The card of a shared run: what it is, what it was made from, how well it does, and what it is not for."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskseq.reports.page import text


def card(
    *,
    name: str,
    licence: str,
    tokenizer: str,
    fields: Sequence[str],
    parameters: int,
    recipe: Mapping[str, Any],
    best: Mapping[str, Any],
    test: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    sources: Sequence[Mapping[str, Any]],
    experts: Sequence[str],
    left_out: Sequence[str],
    version: str,
) -> str:
    """Markdown, with the metadata that the hub reads before it."""
    data = recipe.get("data", {})
    lines = [
        "---",
        f"license: {licence or 'other'}",
        "library_name: maskseq",
        "pipeline_tag: fill-mask",
        "tags: [maskseq, masked-modeling]",
        "---",
        "",
        f"# {name}",
        "",
        f"A masked model of sequences ({tokenizer} tokens; {', '.join(fields)}): {text(parameters)} parameters,",
        f"trained with maskseq {version}.",
        "",
        "```python",
        "import maskseq",
        f'model = maskseq.load("hf://ORGANIZATION/{name}")',
        "```",
        "",
        "## Data",
        "",
        *(f"- `{each['name']}`: {text(each['bytes'])} bytes, SHA-256 `{each['sha256']}`" for each in sources),
        *([] if sources else ["- not known: the corpus is gone"]),
        f"- split: `{data.get('split', {})}`",
        "",
        "## How well it does",
        "",
        *(_figures("selection data", best) + _figures("test data", test)),
        *_judged(evaluation),
        "",
        "## What it is not for",
        "",
        "- Data of another kind than the above: values outside of the vocabulary are filled with values inside of it.",
        "- Decisions about people or patients: nothing here was tested for that.",
        *([] if evaluation else ["- Comparisons: no evaluation with intervals was shared with it."]),
        "",
        "## What is in it",
        "",
        "- the encoder (safetensors), the tokenizer and the recipe (JSON); `digests.json` has every file's SHA-256",
        "- values of the training data that are tokens, such as names of activities: the vocabulary needs them",
        *([f"- experts that hold training data, and these data: {', '.join(experts)}"] if experts else []),
        *([f"- left out, as they hold training data: {', '.join(left_out)}"] if left_out else []),
        "",
        "## Licence",
        "",
        licence or "None was stated by who shared it: ask before you use it.",
        "",
    ]
    return "\n".join(lines)


def _figures(of: str, found: Mapping[str, Any]) -> list[str]:
    if "bits" not in found:
        return []
    lines = [f"- {of}: {text(found['bits'])} bits per masked cell, {found['accuracy']:.1%} right"]
    skills = found.get("skills") or {}
    return lines + [f"- {of}, {name}: {skill:.1%} of the loss of counting saved" for name, skill in skills.items()]


def _judged(evaluation: Mapping[str, Any] | None) -> list[str]:
    if not evaluation:
        return []
    lines = [f"- {evaluation['verdict']['in words']}"] if "verdict" in evaluation else []
    for protocol, figures in evaluation.get("protocols", {}).items():
        if "skill, 95 %" in figures:
            low, high = figures["skill, 95 %"]
            best = figures["best baseline"]
            lines.append(f"- {protocol}: skill {figures['skill']:.1%} ({low:.1%} to {high:.1%}, 95 %) against {best}")
    return lines
