"""The environments of the peers: one each, with pinned packages, built at first use."""

import re
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {
    "scikit-learn": ("scikit-learn==1.9.1",),
    "fasttext": ("fasttext-wheel==0.9.2", "numpy<2"),
    "keras": ("tensorflow-cpu==2.21.0", "keras==3.15.1"),
    "spacy": ("spacy==3.8.18",),
    # its torchmetrics 0.10.3 needs pkg_resources, which later versions of setuptools lack
    "libmultilabel": ("torch==2.13.0", "libmultilabel[nn]==0.10.0", "setuptools==80.9.0"),
    # it imports scikit-learn without requiring it
    "torchtextclassifiers": ("torch==2.13.0", "torchTextClassifiers[huggingface]==2.0.0", "scikit-learn==1.9.1"),
}
MARKER = "requirements.txt"  # in an environment that is complete


class PeerError(Exception):
    """A peer that cannot be installed; the message is pip's."""


def build_environment(name: str, folder: Path) -> Path:
    """The interpreter of a peer's environment, which is built unless it has the same requirements. Raises PeerError."""
    environment = folder / name
    python = environment / "bin" / "python"
    requirements = "\n".join(REQUIREMENTS[name])
    marker = environment / MARKER
    if marker.exists() and marker.read_text() == requirements:
        return python
    marker.unlink(missing_ok=True)
    print(f"building the environment of {name}: {', '.join(REQUIREMENTS[name])}", flush=True)
    run([sys.executable, "-m", "venv", "--clear", str(environment)])
    run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]])
    marker.write_text(requirements)
    return python


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(error_line(done.stderr or done.stdout))


def error_line(output: str) -> str:
    """The last error of pip's output, without addresses and folders of this machine."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
    return re.sub(r"\S*/\S*", "…", errors[-1].removeprefix("ERROR:").strip())[:200]
