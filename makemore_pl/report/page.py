"""The page of a report: everything gathered, drawn, and put into one HTML file."""

import base64
import hashlib
import json
import math
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from makemore_pl.errors import RequestError
from makemore_pl.files import written_output
from makemore_pl.inspect.diagnostic_plots import diagnostic_plots
from makemore_pl.inspect.findings import findings_at_start, findings_over_run, within_limits
from makemore_pl.inspect.loss_curves import DEV, curve, has_losses, loss_curves
from makemore_pl.inspect.plot_style import scientific
from makemore_pl.report.characters import BOUNDARY_SIGN, embedding_map
from makemore_pl.report.likelihoods import (
    SAMPLE,
    commonest_label,
    continuations,
    look_inside,
    nll,
    nll_by_label,
    nll_of_counting,
)
from makemore_pl.report.sampled_names import DRAWN, make_up
from makemore_pl.report.sources import Material
from makemore_pl.report.svg import MOST_LABELS, embedding_picture, picture

REPORT_PAGE = "report.html"


def write_report(material: Material, output: Path | str | None = None, seed: int = 42) -> Path:
    """Write the page, by default as `report.html` beside the checkpoint, and return its path.

    It appears when it is complete.

    Raises:
        RequestError: the seed is negative, or the file cannot be written.
    """
    if seed < 0:
        raise RequestError(f"report: the seed must be at least 0, not {seed}")
    if output is not None and Path(output).is_dir():
        raise RequestError(f"report: {output} is a folder; a file is needed")
    path = Path(output) if output is not None else material.checkpoint.path.parent / REPORT_PAGE
    page = render(material, seed).encode()
    with written_output(path) as target:
        target.write(page)
    return path


def render(material: Material, seed: int) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=PackageLoader("makemore_pl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        exp=math.exp, log=math.log, scientific=scientific, percent=percent, setting=as_in_yaml
    )
    script, _, _ = environment.loader.get_source(environment, "batchnorm.js")  # type: ignore[union-attr]  # set above
    made_up, share_new = make_up(material, seed)
    snapshot = look_inside(material)
    seen = material.diagnostics or ([snapshot.row] if snapshot is not None else [])
    embedding = embedding_map(material.model, material.vocabulary)
    following = continuations(material, [name.name for name in made_up])
    return environment.get_template("report.html").render(
        material=material,
        model=material.model,
        checkpoint=material.checkpoint,
        vocab_size=len(material.vocabulary),
        scores=material.data and {s: nll(material.model, *material.examples(s)) for s in ("dev", "test")},
        counting=nll_of_counting(material),
        by_label=nll_by_label(material),
        commonest_label=commonest_label(material),
        made_up=made_up,
        share_new=share_new,
        longest_name=max(len(name.name) for name in made_up),
        n_drawn=DRAWN,
        lowest_dev=min(curve(material.metrics, DEV)[1], default=None),
        loss_picture=has_losses(material.metrics)
        and picture("loss", "loss over steps", lambda: loss_curves(material.metrics)),
        inside={
            name: picture(name, name.replace("_", " "), draw)
            for name, draw in diagnostic_plots([snapshot] if snapshot else [], material.diagnostics).items()
        },
        sample=min(SAMPLE, len(material.training_examples[1])) if material.training_examples else 0,
        findings=(findings_at_start(seen[0]) if seen and seen[0].step == 0 else []) + findings_over_run(seen),
        healthy=within_limits(seen),
        embedding=embedding,
        embedding_picture=picture(
            "embedding", "map of the characters' embeddings", lambda: embedding_picture(embedding)
        ),
        boundary=BOUNDARY_SIGN,
        most_labels=MOST_LABELS,
        continuations=following,
        most_likely=max(x for c in following for n in c.likeliest for x in (n.probability, n.share or 0)),
        settings={
            "network and training": material.checkpoint.model_arguments,
            "data": material.checkpoint.data_arguments,
        },
        ln2=math.log(2),
        script=Markup(script),
        # The browser runs this script and no other, whatever stands in the page.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def percent(share: float) -> str:
    """A share as a whole percentage; what is there is never 0%."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def as_in_yaml(value: object) -> str:
    """An option's value as its user writes it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
