"""config.yaml of a run directory: what is written is what is read."""

from pathlib import Path

import pytest
import yaml
from omegaconf._utils import get_omega_conf_dumper

from newsreel.runs.run_dir import CONFIG_FILE, read_config, write_config

TEXTS = [
    "1e3",
    "1e-5",
    "yes",
    "off",
    "null",
    "~",
    "",
    "1.0",
    "12_3",
    "1:30",
    "a: b # c",
    "né 日本",
    "x " * 100,
    "'",
    "\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_stay_texts(tmp_path: Path, text: str) -> None:
    config = {"data": {"label": text, "labels": [text, "b"]}, "rate": 1e-05, "seed": 3, "on": True, "no": None}
    write_config(tmp_path, config)
    assert read_config(tmp_path, "data") == config
    written = (tmp_path / CONFIG_FILE).read_text(encoding="utf-8")
    assert written == yaml.dump(config, Dumper=get_omega_conf_dumper(), allow_unicode=True, sort_keys=False)
