"""The verb `refcolbert train`, from files to a checkpoint."""

import json

from click.testing import CliRunner
from train_data import records, write_jsonl

from refcolbert.cli import main


def test_train_from_the_command_line(checkpoint, tmp_path):
    """The verb trains, prints the checkpoint's path, and resumes; an error is one line that names the data."""
    data, out = write_jsonl(tmp_path / "train.jsonl", records()), tmp_path / "run"
    arguments = ["train", str(checkpoint), str(out), "--data", str(data), "--batch", "4", "--threads", "1"]
    arguments += ["--loss", "kl", "--loss", "in-batch=0.5", "--recipe", "small", "--validation", str(data)]
    arguments += ["--steps", "2", "--validate-every", "2"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert f"{out}/checkpoint: the trained checkpoint" in done.output
    told = json.loads((out / "settings.json").read_text())
    assert told["losses"] == {"kl": 1.0, "in-batch": 0.5}
    assert told["dropout"] == 0.0  # the recipe's
    assert CliRunner().invoke(main, [*arguments, "--resume"]).exit_code == 0
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "TrainingError: expected nothing" in again.output
    (tmp_path / "train.jsonl").write_text("{}\n")
    wrong = CliRunner().invoke(main, arguments)
    assert wrong.exit_code == 1
    assert "InvalidInput: train.jsonl:1" in wrong.output
