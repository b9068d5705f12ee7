"""The verbs that the torch side adds to the command line. Importing this module imports no torch."""

import importlib
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from refcolbert import Encoder
from refcolbert.corpus.readers import read_documents
from refcolbert.errors import InvalidInput, MissingDependency

from .cross_encoder import is_cross_encoder
from .layouts.overrides import Choices
from .training.settings import ARCHITECTURES, RECIPES, Settings, parse_losses

__all__ = ["export", "mine", "train", "verify"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
PATH = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--variant",
    type=click.Choice(["float32", "float16", "int8", "dynamic-int8"]),
    default="float32",
    show_default=True,
    help="float16 and int8 store less and compute in float32; dynamic-int8 computes in int8: fast, less exact.",
)
@click.option("--query-prompt", metavar="NAME", help="The checkpoint's prompt for queries, if not its own choice.")
@click.option("--document-prompt", metavar="NAME", help="The same for documents.")
@click.option(
    "--query-length", type=int, help="Tokens at which queries are cut, above the checkpoint's; for long queries."
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the checkpoint brings along.")
@click.option("--json", "as_json", is_flag=True, help="Print the parity report as JSON.")
def export(
    checkpoint: Path,
    out: Path,
    variant: str,
    query_prompt: str | None,
    document_prompt: str | None,
    query_length: int | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Turn a trained CHECKPOINT, ColBERT or cross-encoder, into the ONNX folder OUT, and prove that both agree."""
    if is_cross_encoder(checkpoint):
        if variant != "float32":
            raise click.UsageError("a cross-encoder is exported in float32 alone")
        report = _torch_side("conversion.cross_encoder").export_cross_encoder(checkpoint, out)
        text = f"{report['pairs']} pairs agree with the checkpoint, max-abs {report['worst']['max_abs']:.1e}"
        click.echo(json.dumps(report, indent=1) if as_json else f"{out}: {text}")
        return
    named = {"query": query_prompt, "document": document_prompt}
    prompts = {side: name for side, name in named.items() if name is not None}
    choices = Choices(prompts=prompts, query_length=query_length)
    convert = _torch_side("conversion.colbert").export_checkpoint
    report = convert(checkpoint, out, variant=variant, trust_remote_code=trust_remote_code, choices=choices)
    click.echo(json.dumps(report, indent=1) if as_json else f"{out}: {_summary(report)}")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="The checkpoint to compare with; needs torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the checkpoint brings along.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(out: Path, against: Path | None, trust_remote_code: bool, as_json: bool) -> None:
    """Check that the model folder OUT still gives the vectors of its parity report, or those of a checkpoint."""
    if against is None:
        from .parity.report import recheck

        found = recheck(out)
        text = f"{found['texts']} texts, probes within {found['worst_probe']:.1e} of the report"
    else:
        found = _torch_side("conversion.colbert").verify_against(out, against, trust_remote_code=trust_remote_code)
        text = _summary(found)
    click.echo(json.dumps(found, indent=1) if as_json else f"{out}: {text}")


@click.command()
@click.argument("start", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--data", "data", multiple=True, required=True, type=FILE, help="Examples or triples; may be repeated.")
@click.option("--queries", type=FILE, help="queries.tsv, for triples of ids.")
@click.option("--collection", type=FILE, help="collection.tsv, for triples of ids.")
@click.option("--steps", type=int, required=True, help="Updates of the weights.")
@click.option("--architecture", type=click.Choice(list(ARCHITECTURES)), help="Default: colbert.")
@click.option(
    "--recipe", type=click.Choice(list(RECIPES)), default="paper", show_default=True, help="Defaults of the rest."
)
@click.option("--loss", "losses", multiple=True, metavar="NAME[=WEIGHT]", help="May be repeated; the sum is trained.")
@click.option("--batch", type=int, help="Examples a backward pass.")
@click.option("--accumulate", type=int, help="Backward passes a step.")
@click.option("--block", type=int, help="Neighbours in the data that stay together: such as share documents.")
@click.option("--negatives", type=int, help="Of each example, chosen anew every epoch; default: all.")
@click.option("--learning-rate", type=float)
@click.option("--head-learning-rate", type=float, help="Of the projection; default: as the rest.")
@click.option("--warmup", type=float, help="Share of the steps in which the learning rate rises.")
@click.option("--weight-decay", type=float)
@click.option("--clip", type=float, help="Largest norm of a step's gradient.")
@click.option("--dropout", type=float, help="Default: as config.json says.")
@click.option("--freeze", type=int, help="Lowest layers not to train, nor the embeddings.")
@click.option("--temperature", type=float, help="Of the in-batch softmax.")
@click.option("--student-temperature", type=float, help="Of the model's scores in kl.")
@click.option("--teacher-temperature", type=float, help="Of the teacher's scores in kl.")
@click.option("--query-length", type=int, help="Tokens at which training cuts queries; short ones are filled as ever.")
@click.option("--document-length", type=int, help="Tokens at which training cuts documents.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]))
@click.option("--cached", is_flag=True, default=None, help="Cache gradients: batches beyond what memory holds.")
@click.option("--group-tokens", type=int, help="Tokens that go through the transformer at once.")
@click.option("--seed", type=int)
@click.option("--validation", type=PATH, help="A BEIR folder, or held-out examples.")
@click.option("--validate-every", type=int, metavar="STEPS")
@click.option("--metric", type=click.Choice(["RR@10", "nDCG@10"]), help="Decides which weights are kept.")
@click.option("--patience", type=int, metavar="VALIDATIONS", help="End after as many without a better metric.")
@click.option("--save-every", type=int, metavar="STEPS")
@click.option("--save-minutes", type=float)
@click.option("--threads", type=int)
@click.option("--dim", type=int, default=128, show_default=True, help="Of a new projection; as the next three.")
@click.option(
    "--projection",
    type=click.Choice(["pca", "random"]),
    default="pca",
    show_default=True,
    help="How a new one begins: fitted to the states of the data's documents, or drawn.",
)
@click.option("--no-punctuation-filter", is_flag=True, help="Keep the vectors of punctuation marks.")
@click.option("--attend-to-mask", is_flag=True, help="Let a query's words attend to its [MASK] tokens.")
@click.option("--resume", is_flag=True, help="Go on where the run at OUT was interrupted.")
def train(
    start: Path,
    out: Path,
    data: tuple[Path, ...],
    queries: Path | None,
    collection: Path | None,
    recipe: str,
    losses: tuple[str, ...],
    validation: Path | None,
    dim: int,
    projection: str,
    no_punctuation_filter: bool,
    attend_to_mask: bool,
    resume: bool,
    **given: Any,
) -> None:
    """Train the ColBERT checkpoint or transformer START; OUT/checkpoint is what `export` takes."""
    chosen: dict[str, Any] = {**RECIPES[recipe], **{name: value for name, value in given.items() if value is not None}}
    if losses:
        chosen["losses"] = parse_losses(losses)
    settings = Settings(**chosen)
    side = {name: _torch_side(f"training.{name}") for name in ("data", "start", "validate", "loop", "malloc")}
    side["malloc"].keep_freed_memory()
    head = side["start"].Head(dim=dim, mask_punctuation=not no_punctuation_filter, attend_to_mask_tokens=attend_to_mask)
    examples = side["data"].read_examples(data, queries, collection)
    pool = None if validation is None else side["validate"].read_pool(validation)
    if settings.architecture == "cross-encoder":
        begun = _torch_side("training.cross_encoder").read_cross_start(start, settings.seed)
    else:
        begun = side["start"].read_start(start, head, settings.seed)
        if begun.new_head and projection == "pca" and not resume:
            _torch_side("training.pca").fit_head(begun, examples)
    found = side["loop"].train(begun, examples, out, settings, validation=pool, resume=resume, progress=True)
    click.echo(f"{found}: the trained checkpoint; `refcolbert export {found} MODEL` makes it ONNX")


@click.command()
@click.argument("data", nargs=-1, required=True, type=FILE)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--corpus", type=PATH, help="More documents: whatever `refcolbert index` reads.")
@click.option("--model", type=PATH, help="The exported ColBERT model that is to be trained further.")
@click.option("--bi-encoder", type=PATH, help="A mean-pooled Sentence-Transformers folder: the better teacher.")
@click.option("--hard", type=click.IntRange(0), default=8, show_default=True, help="The hardest candidates.")
@click.option("--middle", type=click.IntRange(0), default=4, show_default=True, help="Others among the candidates.")
@click.option("--random", type=click.IntRange(0), default=3, show_default=True, help="From all documents.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def mine(
    data: tuple[Path, ...],
    out: Path,
    corpus: Path | None,
    model: Path | None,
    bi_encoder: Path | None,
    seed: int,
    **n: int,
) -> None:
    """Write the examples in DATA to OUT with hard negatives and a teacher's scores, for `train --loss kl`."""
    side = {"data": _torch_side("training.data"), **{n: _torch_side(f"mining.{n}") for n in ("mine", "choice")}}
    if out.exists():
        raise InvalidInput(f"there is already something at {out}; remove it or choose another place")
    examples = side["data"].read_examples(data)
    texts = () if corpus is None else (document.text or "" for document in read_documents(corpus))
    encoder = None if model is None else Encoder.load(model)
    with tempfile.TemporaryDirectory() as scratch:
        miner = side["mine"].Miner(examples, texts, Path(scratch), model=encoder, bi_encoder=bi_encoder)
        count = side["mine"].write_examples(out, miner.mine(choice=side["choice"].Choice(**n), seed=seed))
    click.echo(f"{out}: {count} examples over {len(miner.documents)} documents")


def _summary(report: dict[str, Any]) -> str:
    worst = report["worst"]
    return (
        f"{len(report['texts'])} texts and {len(report['shapes'])} shapes agree with the checkpoint, "
        f"max-abs {worst['max_abs']:.1e}, min cosine {worst['min_cosine']:.7f}"
    )


def _torch_side(module: str) -> ModuleType:
    """Import a module of this package that needs torch. Raises `MissingDependency`."""
    try:
        return importlib.import_module(f"{__package__}.{module}")
    except ModuleNotFoundError as error:
        if error.name in ("torch", "transformers", "onnx", "safetensors"):
            raise MissingDependency(
                f"this command needs {error.name}, which is not installed: pip install 'refcolbert[export]'"
            ) from error
        raise
