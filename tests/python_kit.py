"""What tests that compare with Python libraries share: the Python that has them, the program, and `tenfold tokenize` on lines of JSON."""
import importlib
import json
import os
import subprocess
import sys

SOURCE = os.environ.get("TENFOLD_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
TENFOLD = os.environ.get("TENFOLD", os.path.join(SOURCE, "build", "app", "tenfold"))
sys.path.insert(0, os.path.join(SOURCE, "tests", "golden"))


def need(*modules):
    """Goes on as $TENFOLD_PYTHON where this Python lacks one of the modules; the test is skipped (77) where that lacks it too."""
    try:
        for name in modules:
            importlib.import_module(name)
    except ImportError as e:
        other = os.environ.get("TENFOLD_PYTHON")
        if other and not os.environ.get("TENFOLD_PYTHON_USED"):
            os.environ["TENFOLD_PYTHON_USED"] = "1"
            os.execv(other, [other] + sys.argv)
        print(f"skipped: the Python module {e.name} is not here (set TENFOLD_PYTHON to a Python that has it)")
        sys.exit(77)


def tokenize(model, lines, *options):
    """(results, ""), or (None, what the program said)."""
    run = subprocess.run([TENFOLD, "tokenize", "--model", model, "--jsonl", *options], capture_output=True,
                         input="".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines).encode())
    if run.returncode:
        return None, run.stderr.decode()
    return [json.loads(line) for line in run.stdout.decode().split("\n") if line], ""
