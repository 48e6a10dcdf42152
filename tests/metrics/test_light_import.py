"""Training code imports the metrics: that must not bring in what only some of them use."""

import subprocess
import sys


def test_import_brings_in_no_classifier_and_no_plot():
    code = "import jaxgen.metrics, sys; print([m for m in ('sklearn', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
