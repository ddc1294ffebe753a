"""Downloads data sets of the Hugging Face Hub with `datasets`."""

import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from newsreel.corpora.sources import Unavailable, require_downloads

if TYPE_CHECKING:
    from datasets import DatasetDict

PROBE_TIMEOUT_SECONDS = 10


def load(name: str, /, **options: Any) -> "DatasetDict":
    """All splits of the data set `name`, downloaded (with a progress bar, resumed, verified) or from the Hub's cache.

    options: arguments of `datasets.load_dataset` besides the data set, such as `revision` and `data_files`; here
    `name` is a configuration of the data set.
    Checks first that the Hub responds, because the client would retry for half a minute. Raises Unavailable with the
    client's reason.
    """
    require_downloads()
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        url = f"{constants.ENDPOINT}/api/datasets/{urllib.parse.quote(name)}"
        try:
            urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_SECONDS).close()
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise Unavailable(f"{constants.ENDPOINT} does not provide it: {reason}") from error

    import datasets

    try:
        return datasets.load_dataset(name, **options)
    except Exception as error:  # the client has no common base class: HTTP, Parquet and other errors
        raise Unavailable(f"{type(error).__name__}: {error}") from error
