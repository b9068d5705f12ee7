"""The verbs of the torch side."""

import json
import subprocess
import sys

from click.testing import CliRunner

from refcolbert_export.cli import export, verify


def test_export_and_verify(checkpoint, tmp_path):
    """Both verbs report the measured difference when the export is faithful."""
    out = str(tmp_path / "out")
    done = CliRunner().invoke(export, [str(checkpoint), out], catch_exceptions=False)
    assert "max-abs" in done.output
    assert "probes within" in CliRunner().invoke(verify, [out], catch_exceptions=False).output
    assert "max-abs" in CliRunner().invoke(verify, [out, "--against", str(checkpoint)], catch_exceptions=False).output


def test_export_prints_its_report_as_json(checkpoint, tmp_path):
    """--json is the parity report that the folder keeps."""
    done = CliRunner().invoke(export, [str(checkpoint), str(tmp_path / "out"), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "parity.json").read_text())


def test_the_verbs_import_no_torch():
    """The command line stays light when the torch side is only listed."""
    code = "import sys, refcolbert_export.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_extra_is_named():
    """The error names refcolbert[export] when torch is not installed."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from refcolbert_export import cli\n"
        "try: cli.export.main(['nowhere', 'out'], standalone_mode=False)\n"
        "except ImportError as error: sys.exit('refcolbert[export]' not in str(error))\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
