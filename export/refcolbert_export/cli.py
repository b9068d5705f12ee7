"""The command-line verbs of the torch side. Importing this module does not import torch.

Each verb imports the modules that do its work when it runs, so that `refcolbert --help` stays fast and works without
the extra.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import click

from refcolbert import Encoder
from refcolbert.corpus.readers import read_documents
from refcolbert.errors import ExportError, InvalidInput, MissingDependency

from .cross_encoder import is_cross_encoder
from .hub import checkpoint_folder
from .layouts.overrides import Choices
from .replace_folder import check_free
from .training.settings import RECIPES, Settings, parse_losses

__all__ = ["export", "mine", "train", "verify"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PATH = click.Path(exists=True, path_type=Path)
NEW = click.Path(path_type=Path)
TOKENIZER = "For a .dnn file: folder with its BERT's config.json and tokenizer."


@contextmanager
def export_extra() -> Iterator[None]:
    """Raise `MissingDependency` before the block, which imports them, when a package of `export` is not installed."""
    missing = [name for name in ("torch", "transformers", "onnx", "safetensors") if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"this command needs {', '.join(missing)}, not installed here: pip install 'refcolbert[export]'"
        )
    yield


@click.command()
@click.argument("checkpoint")
@click.argument("out", type=NEW)
@click.option("--revision", help="Branch, tag or commit, when CHECKPOINT is a hub id. Default: main.")
@click.option(
    "--variant",
    type=click.Choice(["float32", "float16", "int8", "int8-int4", "dynamic-int8"]),
    default="float32",
    show_default=True,
    help="float16 and int8 store less and compute in float32; int8-int4 has token embeddings of four bits. "
    "dynamic-int8 computes in int8: faster, less exact.",
)
@click.option("--query-prompt", metavar="NAME", help="Name of the checkpoint's prompt for queries, if not its default.")
@click.option("--document-prompt", metavar="NAME", help="Name of the checkpoint's prompt for documents.")
@click.option("--query-length", type=int, help="Tokens at which queries are cut, if more than the checkpoint's length.")
@click.option("--document-length", type=int, help="Tokens at which documents are cut, if fewer than the checkpoint's.")
@click.option("--language", help="Language of an XMOD, such as de_DE, if not its default. Others are left out.")
@click.option("--tokenizer", type=FOLDER, help=TOKENIZER)
@click.option("--expected", type=FILE, help="Vectors of the checkpoint's author, to compare with: a .npz file.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the checkpoint contains.")
@click.option("--json", "as_json", is_flag=True, help="Print the parity report as JSON.")
def export(
    checkpoint: str,
    out: Path,
    revision: str | None,
    variant: str,
    query_prompt: str | None,
    document_prompt: str | None,
    query_length: int | None,
    document_length: int | None,
    language: str | None,
    tokenizer: Path | None,
    expected: Path | None,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Export a trained CHECKPOINT, ColBERT or cross-encoder, to the ONNX folder OUT and check that both agree.

    CHECKPOINT is a folder, or the hub id OWNER/NAME of a repository, which is downloaded.
    """
    with export_extra():
        check_free(out, ExportError)
        folder = checkpoint_folder(checkpoint, revision) if tokenizer is None else Path(checkpoint)
        from .conversion.colbert import export_checkpoint
        from .conversion.cross_encoder import export_cross_encoder
    if is_cross_encoder(folder):
        if variant != "float32":
            raise click.UsageError(f"expected --variant float32 for a cross-encoder, found {variant}")
        report = export_cross_encoder(folder, out)
        summary = f"{report['pairs']} pairs agree with the checkpoint, max-abs {report['worst']['max_abs']:.1e}"
    else:
        prompts = {
            side: name for side, name in (("query", query_prompt), ("document", document_prompt)) if name is not None
        }
        choices = Choices(
            prompts=prompts, query_length=query_length, document_length=document_length, language=language
        )
        report = export_checkpoint(
            folder,
            out,
            variant=variant,
            trust_remote_code=trust_remote_code,
            choices=choices,
            tokenizer=tokenizer,
            expected=expected,
        )
        summary = _summary(report)
    click.echo(json.dumps(report, indent=1) if as_json else f"{out}: {summary}")


@click.command()
@click.argument("out", type=NEW)
@click.option("--against", type=NEW, help="Checkpoint to compare with; needs torch.")
@click.option("--tokenizer", type=FOLDER, help=TOKENIZER)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the checkpoint contains.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(out: Path, against: Path | None, tokenizer: Path | None, trust_remote_code: bool, as_json: bool) -> None:
    """Check that the model folder OUT still gives the vectors of its parity report, or of a checkpoint."""
    if against is None:
        from .parity.report import recheck

        report = recheck(out)
        summary = f"{report['texts']} texts, probes within {report['worst_probe']:.1e} of the report"
    else:
        with export_extra():
            from .conversion.colbert import verify_against
        report = verify_against(out, against, trust_remote_code=trust_remote_code, tokenizer=tokenizer)
        summary = _summary(report)
    click.echo(json.dumps(report, indent=1) if as_json else f"{out}: {summary}")


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add one option per field of `Settings` that has a help text. Its default is None: the recipe's value holds."""
    for setting in reversed(dataclasses.fields(Settings)):
        if "help" not in setting.metadata:
            continue
        kind: Any = next(iter(get_args(setting.type)), setting.type)  # float of `float | None`
        options = {"type": kind} if kind is not bool else {"is_flag": True}
        if "choices" in setting.metadata:
            options = {"type": click.Choice(list(setting.metadata["choices"]))}
        command = click.option(
            f"--{setting.name.replace('_', '-')}",
            default=None,
            required=setting.default is dataclasses.MISSING,
            metavar=setting.metadata.get("metavar"),
            help=setting.metadata["help"],
            **options,
        )(command)
    return command


@click.command()
@click.argument("start", type=PATH)
@click.argument("out", type=NEW)
@click.option("--tokenizer", type=FOLDER, help=TOKENIZER)
@click.option("--data", multiple=True, required=True, type=FILE, help="Examples or triples; may be repeated.")
@click.option("--queries", type=FILE, help="queries.tsv, for triples of ids.")
@click.option("--collection", type=FILE, help="collection.tsv, for triples of ids.")
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default="paper",
    show_default=True,
    help="Defaults of the options below: the paper's for BERT-base, or higher learning rates for small encoders.",
)
@click.option(
    "--loss",
    "losses",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    help="Loss to train. May be repeated: the weighted sum is trained. Default: pairwise-softmax.",
)
@settings_options
@click.option("--teacher", type=FOLDER, help="The ColBERT checkpoint whose vectors --loss vectors teaches.")
@click.option("--validation", type=PATH, help="A BEIR folder, or a file of held-out examples.")
@click.option("--dim", type=int, default=128, show_default=True, help="Columns of a new projection.")
@click.option(
    "--projection",
    type=click.Choice(["pca", "random"]),
    default="pca",
    show_default=True,
    help="Initial weights of a new projection: fitted to the token states of the documents, or random.",
)
@click.option("--no-punctuation-filter", is_flag=True, help="Keep the vectors of punctuation, with a new projection.")
@click.option(
    "--attend-to-mask", is_flag=True, help="Let queries attend to their [MASK] tokens, with a new projection."
)
@click.option("--resume", is_flag=True, help="Continue the interrupted run at OUT.")
def train(
    start: Path,
    out: Path,
    tokenizer: Path | None,
    data: tuple[Path, ...],
    queries: Path | None,
    collection: Path | None,
    recipe: str,
    losses: tuple[str, ...],
    teacher: Path | None,
    validation: Path | None,
    dim: int,
    projection: str,
    no_punctuation_filter: bool,
    attend_to_mask: bool,
    resume: bool,
    **options: Any,
) -> None:
    """Train the ColBERT checkpoint or transformer START. Export the result with `export OUT/checkpoint`."""
    if losses:
        options["losses"] = parse_losses(losses)
    settings = Settings(**{**RECIPES[recipe], **{name: value for name, value in options.items() if value is not None}})
    with export_extra():
        from .layouts.single_file import as_folder
        from .training.cross_encoder import CrossStart, read_cross_start
        from .training.data import read_examples
        from .training.loop import train as train_model
        from .training.malloc import keep_freed_memory
        from .training.pca import fit_head
        from .training.start import Head, Start, read_start, read_teacher
        from .training.validate import read_pool
    keep_freed_memory()
    examples = read_examples(data, queries, collection)
    pool = None if validation is None else read_pool(validation)
    taught_by = None if teacher is None else read_teacher(teacher)
    model: Start | CrossStart
    with as_folder(start, tokenizer) as folder:
        if settings.architecture == "cross-encoder":
            model = read_cross_start(folder, settings.seed)
        else:
            head = Head(dim=dim, mask_punctuation=not no_punctuation_filter, attend_to_mask_tokens=attend_to_mask)
            model = read_start(folder, head, settings.seed)
            if model.new_head and projection == "pca" and not resume:
                fit_head(model, examples)
        trained = train_model(
            model, examples, out, settings, teacher=taught_by, validation=pool, resume=resume, progress=True
        )
    click.echo(f"{trained}: the trained checkpoint; `refcolbert export {trained} MODEL` makes it ONNX")


@click.command()
@click.argument("data", nargs=-1, required=True, type=FILE)
@click.argument("out", type=NEW)
@click.option("--corpus", type=PATH, help="More documents, in any form that `refcolbert index` reads.")
@click.option("--model", type=PATH, help="The exported ColBERT model that will be trained further.")
@click.option("--bi-encoder", type=PATH, help="A mean-pooled Sentence-Transformers folder, used as teacher.")
@click.option("--hard", type=click.IntRange(0), default=8, show_default=True, help="Highest-scored candidates.")
@click.option("--middle", type=click.IntRange(0), default=4, show_default=True, help="Other candidates, at random.")
@click.option("--random", type=click.IntRange(0), default=3, show_default=True, help="Any documents, at random.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the random choices.")
def mine(
    data: tuple[Path, ...],
    out: Path,
    corpus: Path | None,
    model: Path | None,
    bi_encoder: Path | None,
    hard: int,
    middle: int,
    random: int,
    seed: int,
) -> None:
    """Write the examples in DATA to OUT with hard negatives and a teacher's scores, for `train --loss kl`."""
    with export_extra():
        from .mining.choice import Choice
        from .mining.mine import Miner, write_examples
        from .training.data import read_examples
    check_free(out, InvalidInput)
    examples = read_examples(data)
    texts = () if corpus is None else (document.text or "" for document in read_documents(corpus))
    encoder = None if model is None else Encoder.load(model)
    with tempfile.TemporaryDirectory() as scratch:
        miner = Miner(examples, texts, Path(scratch), model=encoder, bi_encoder=bi_encoder)
        count = write_examples(out, miner.mine(choice=Choice(hard, middle, random), seed=seed))
    click.echo(f"{out}: {count} examples over {len(miner.documents)} documents")


def _summary(report: dict[str, Any]) -> str:
    worst = report["worst"]
    return (
        f"{len(report['texts'])} texts and {len(report['shapes'])} shapes agree with the checkpoint, "
        f"max-abs {worst['max_abs']:.1e}, min cosine {worst['min_cosine']:.7f}"
    )
