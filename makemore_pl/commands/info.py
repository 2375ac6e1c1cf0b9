"""`makemore info`: what an exported file holds."""

import json
from dataclasses import asdict
from pathlib import Path

from makemore_pl.errors import MakemoreError
from makemore_pl.exported.metadata import MODEL_FILE, ModelInfo, find_model
from makemore_pl.parsing.runtime_parser import RuntimeParser, model_or_newest
from makemore_pl.runtime.sampler import Sampler
from makemore_pl.text import PLAIN

MOST_PROBABILITIES = 1 << 22
"""Of all contexts, for each pair of labels: about so many are computed in a second."""


def run(command: str, args: list[str]) -> None:
    """Run the command."""
    options = RuntimeParser(command, "What an exported file holds.", ("text", "json")).parse_args(args)
    path = find_model(model_or_newest(options.model), MODEL_FILE)
    sampler = Sampler(path, prepare=False)
    info = sampler.info
    shared = _collision_probability(sampler)
    if options.format == "json":
        collision = {"collision_probability": shared if isinstance(shared, float) else None}
        print(json.dumps({"file": str(path), **asdict(info), **collision}, ensure_ascii=False, indent=2))
    else:
        ids = f"two get the same name with probability {shared:.3g}" if isinstance(shared, float) else shared
        print(_describe(path, info, ids))


def _collision_probability(sampler: Sampler) -> float | str:
    """The probability that two ids get the same name, or the reason why it is not known."""
    info = sampler.info
    n_labels = max(1, len(info.labels))
    n_pairs = n_labels * (n_labels + 1) // 2
    if n_pairs * len(info.vocabulary) ** (info.block_size + 1) > MOST_PROBABILITIES:
        labels = f" and {n_pairs:,} pairs of labels" if info.labels else ""
        return f"not computed for {info.block_size} characters of context{labels}"
    try:
        return sampler.collision_probability()
    except MakemoreError as error:
        return str(error)


def _describe(path: Path, info: ModelInfo, ids: str) -> str:
    proof = info.verification
    checked, total = proof.get("contexts", 0), proof.get("contexts_total", 0)
    which = f"all {total:,}" if proof.get("exhaustive") else f"{checked:,} of {total:,}"
    deviation = proof.get("largest_deviation", float("nan"))
    trained_on = (
        f"{info.list_name} (SHA-256 {info.list_sha256[:16]}…), names of up to {info.longest_name} characters"
    )
    rows = {
        "file": f"{path} ({path.stat().st_size:,} bytes)",
        "vocabulary": f"{len(info.characters)} characters and the boundary: {info.characters}",
        "context": f"{info.block_size} characters",
        "network": f"embedding {info.n_embd}, {info.n_layers} hidden of {info.n_hidden}, "
        f"{info.n_parameters:,} parameters",
        "form": info.form,
        "trained on": trained_on if info.list_sha256 else "a list that is not recorded",
        "verified": f"on {which} contexts, largest deviation {deviation:.1e}",
        "ids": ids,
        "written by": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }
    if info.labels:
        shares = zip(info.labels, info.label_shares, strict=True)
        rows["labels"] = ", ".join(f"{label} ({share:.1%} of the names)" for label, share in shares)
    if info.text_rules != PLAIN:
        rows["text"] = f"normalize {info.normalize}, case {info.case}"
    return "\n".join(f"{key + ':':<12} {_printable(value)}" for key, value in rows.items())


def _printable(text: str) -> str:
    """Show characters that a terminal would obey as escapes: a file may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
